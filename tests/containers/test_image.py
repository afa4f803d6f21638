"""The image: alone and locked down, small, configured by its environment, and a good process 1."""

import json
import subprocess
import tarfile
from collections.abc import Iterator
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed

from metagame import CapacityReached, MetaGameAction, MetaGameEnv
from tests.containers.engine import ROOT, Container, container, docker, inspect, network, wait_until
from tests.wire.sockets import ask, open_socket

PUBLISHED = ("--publish", "127.0.0.1::8000")
LOCKED_DOWN = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--pids-limit", "256")
LAYERS_LIMIT_MB = 75
BUILD_TOOLS = "cc gcc g++ make ld cmake cargo uv hatch"


@pytest.fixture(scope="module")
def alone(image: str) -> Iterator[Container]:
    """One container as the first command of anybody would start it."""
    with container(*PUBLISHED) as running:
        running.wait_ready()
        yield running


def play(url: str) -> list[float | None]:
    with MetaGameEnv(url) as env:
        env.reset()
        return [env.step(MetaGameAction(message="x" * length)).reward for length in (1, 2, 3)]


def wait_healthy(running: Container) -> None:
    wait_until(lambda: running.state["Health"]["Status"] == "healthy", f"{running.name} healthy")


def test_it_serves_alone_without_any_variable_and_is_healthy(alone: Container) -> None:
    assert play(alone.url) == [0.1, 0.2, 0.3]
    wait_healthy(alone)
    assert "lost with it" in alone.log


@pytest.mark.parametrize("user", ["65532", "12345:54321"])
def test_it_serves_any_user_without_a_file_to_write(image: str, user: str) -> None:
    with container(*PUBLISHED, *LOCKED_DOWN, "--user", user) as running:
        running.wait_ready()
        assert play(running.url) == [0.1, 0.2, 0.3]
        wait_healthy(running)
        assert docker("exec", running.name, "id", "-u") == user.partition(":")[0]


def test_it_declares_no_volume_an_unprivileged_user_and_what_it_is(image: str) -> None:
    config = inspect(image)["Config"]
    assert not config.get("Volumes")
    assert config["User"] == "65532:65532"
    assert set(config["ExposedPorts"]) == {"8000/tcp"}
    assert config["Cmd"] == ["metagame", "serve"]
    assert not config.get("Entrypoint")
    labels = config["Labels"]
    assert labels["org.opencontainers.image.licenses"] == "BSD-3-Clause"
    assert {"title", "description", "version", "revision"} <= {name.rpartition(".")[2] for name in labels}


def test_its_own_layers_are_small(image: str) -> None:
    [base] = {line.split()[1] for line in (ROOT / "deploy/Dockerfile").read_text().splitlines() if line[:5] == "FROM "}
    ours_mb = (inspect(image)["Size"] - inspect(base)["Size"]) / 1e6
    assert 0 < ours_mb < LAYERS_LIMIT_MB


def test_it_holds_nothing_that_builds_installs_or_tests(image: str, alone: Container) -> None:
    tools = docker("exec", alone.name, "sh", "-c", f"command -v {BUILD_TOOLS} || true")
    assert tools == ""
    files = docker("exec", alone.name, "find", "/opt", "/src", "/wheel", "/build", "-type", "f", check=False)
    ours = [line for line in files.splitlines() if line.startswith("/")]
    assert len(ours) > 100
    assert [path for path in ours if not path.startswith("/opt/metagame/")] == []
    packages = {path.split("/site-packages/")[1].split("/")[0] for path in ours if "/site-packages/" in path}
    assert not packages & {"pip", "setuptools", "wheel", "hatchling", "pytest", "tests"}
    writable = docker("exec", "--user", "12345", alone.name, "find", "/opt/metagame", "-writable", "-not", "-type", "l")
    assert writable == ""
    assert "gcc" not in docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)


def test_every_file_of_the_packages_that_is_tracked_is_in_it(alone: Container) -> None:
    names = {name.replace("services/", "metagame_server/", 1) for name in _package_files()}
    found = docker("exec", alone.name, "sh", "-c", "cd lib/python3*/site-packages && find . -type f")
    assert len(names) > 50
    assert names - {line.removeprefix("./") for line in found.splitlines()} == set()
    assert docker("exec", alone.name, "metagame", "--version").startswith("metagame ")


def test_the_build_sees_only_what_it_needs(docker_engine: None) -> None:
    """The context as the engine gets it: no history, no environment, no test, no secret beside the code."""
    built = f"metagame-test-{uuid4().hex[:12]}"
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", built, "--file", "-", "."],
        input='FROM scratch\nCOPY . /\nCMD ["none"]\n',
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    name = docker("create", built)
    try:
        with (
            subprocess.Popen(["docker", "export", name], stdout=subprocess.PIPE) as exported,
            tarfile.open(fileobj=exported.stdout, mode="r|") as tar,
        ):
            sent = [member.name for member in tar if member.isfile()]
    finally:
        docker("rm", name)
        docker("rmi", built)
    sent = [path for path in sent if path.split("/")[0] not in {"dev", "proc", "sys", "etc", ".dockerenv"}]
    assert {path.split("/")[0] for path in sent} == {
        *("LICENSE", "README.md", "openenv.yaml", "pyproject.toml", "deploy", "metagame", "meta_game", "services"),
    }
    assert {path for path in sent if path.startswith("deploy/")} == {
        "deploy/requirements.txt",
        "deploy/requirements-build.txt",
    }
    assert [path for path in sent if path.endswith(".pyc") or "__pycache__" in path] == []


def test_settings_come_from_the_environment_and_the_health_check_follows_the_port(image: str) -> None:
    variables = {"PORT": "9100", "METAGAME_MAX_SESSIONS": "1", "METAGAME_LOG_FORMAT": "json"}
    options = [option for name, value in variables.items() for option in ("--env", f"{name}={value}")]
    with container("--publish", "127.0.0.1::9100", *options) as running:
        wait_healthy(running)
        url = f"http://{docker('port', running.name, '9100').splitlines()[0]}"
        with MetaGameEnv(url) as env, MetaGameEnv(url) as refused:
            env.reset()
            with pytest.raises(CapacityReached):
                refused.reset()
        lines = [line for line in running.log.splitlines() if line.startswith("{")]
        assert json.loads(lines[0])["level"] == "warning"


def test_the_health_check_fails_where_nothing_answers(alone: Container) -> None:
    command = inspect(alone.name)["Config"]["Healthcheck"]["Test"]
    assert command[0] == "CMD"
    for port, code in (("8000", 0), ("8001", 1)):
        checked = subprocess.run(
            ["docker", "exec", "--env", f"METAGAME_PORT={port}", alone.name, *command[1:]],
            capture_output=True,
            check=False,
        )
        assert checked.returncode == code


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("METAGAME_MAX_SESSIONS=many", "METAGAME_MAX_SESSIONS is 'many', which is not allowed"),
        ("WORKERS=2", "Set METAGAME_REDIS_URL"),
    ],
)
def test_a_wrong_setting_ends_it_with_code_2_and_says_why(image: str, variable: str, said: str) -> None:
    with container("--env", variable) as ended:
        assert ended.exit_code() == 2
        assert said in ended.log


@pytest.mark.parametrize("signal", ["TERM", "INT"])
def test_a_signal_drains_its_sockets_and_ends_it_with_code_0(image: str, signal: str) -> None:
    with container(*PUBLISHED) as running:
        running.wait_ready()
        with open_socket(running.url.replace("http", "ws"), "/sessions/kept/ws") as socket:
            ask(socket, {"type": "reset"})
            docker("kill", "--signal", signal, running.name)
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=10)
            assert socket.close_code == 1012
        assert running.exit_code() == 0
        assert ("worker drained" in running.log) == (signal == "TERM")


BLOCKED = """
import sys, time
class Blocks:
    def find_spec(self, name, path=None, target=None):
        if name == "metagame.cli.commands":
            print("importing", flush=True)
            time.sleep(600)
sys.meta_path.insert(0, Blocks())
from metagame.cli import main
main(["serve"])
"""


def test_a_stop_while_it_still_starts_ends_it_at_once(image: str) -> None:
    """Process 1 has no default action for signals: without a handler from the beginning SIGTERM would be lost."""
    with container(command=("python", "-c", BLOCKED)) as starting:
        wait_until(lambda: "importing" in starting.log, "the import")
        docker("kill", "--signal", "TERM", starting.name)
        assert starting.exit_code() == 0


def test_two_workers_serve_one_pool_and_process_1_looks_after_them(image: str) -> None:
    with (
        network() as net,
        container("--network", net, "--network-alias", "redis", image="redis:8"),
        container(
            *PUBLISHED,
            *LOCKED_DOWN,
            "--network",
            net,
            "--env",
            "WORKERS=2",
            "--env",
            "METAGAME_REDIS_URL=redis://redis",
        ) as running,
    ):
        running.wait_ready()
        assert play(running.url) == [0.1, 0.2, 0.3]
        workers = _workers(running)
        assert len(workers) == 2
        docker("exec", running.name, "python", "-c", f"import os; os.kill({workers[0]}, 9)")
        wait_until(lambda: workers[0] not in _workers(running) and len(_workers(running)) == 2, "a new worker")
        assert _processes(running, "Z") == []
        running.wait_ready()
        assert play(running.url) == [0.1, 0.2, 0.3]
        docker("kill", "--signal", "TERM", running.name)
        assert running.exit_code() == 0


def _package_files() -> list[str]:
    """As git has them; in a source distribution, where there is no git, all."""
    folders = ["metagame", "meta_game", "services"]
    if not (ROOT / ".git").exists():
        found = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
        return [str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts]
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def _workers(running: Container) -> list[int]:
    """The children of process 1 that are servers; the other one is multiprocessing's own."""
    return [pid for pid, command in _processes(running, "RSD") if "spawn_main" in command]


def _processes(running: Container, states: str) -> list[tuple[int, str]]:
    """The children of process 1 that are in one of these states, as /proc has them."""
    code = (
        "import json, pathlib\n"
        "found = []\n"
        "for each in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    try:\n"
        "        state, parent = (each / 'stat').read_text().rpartition(')')[2].split()[:2]\n"
        "        found.append((int(each.name), state, parent, (each / 'cmdline').read_text()))\n"
        "    except OSError:\n"
        "        continue\n"
        "print(json.dumps(found))\n"
    )
    listed = json.loads(docker("exec", running.name, "python", "-c", code))
    return [(pid, command) for pid, state, parent, command in listed if parent == "1" and state in states]
