"""The wheel: what it carries, and that it works in a clean environment outside the checkout.

`METAGAME_TEST_PYTHONS` names the interpreters to install it into, separated by colons; without
it, the one that runs the tests.
"""

import json
import os
import re
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = [python for python in os.environ.get("METAGAME_TEST_PYTHONS", "").split(":") if python] or [sys.executable]
QUICK_START = """
    import sys
    from meta_game import MetaGameAction, MetaGameEnv

    env = MetaGameEnv(base_url=sys.argv[1])
    env.reset()
    result = env.step(MetaGameAction(message="Hello, World!"))
    assert (result.observation.echoed_message, result.reward) == ("Hello, World!", 1.3)
    env.close()
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run([sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], cwd=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session", params=PYTHONS)
def installed(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a clean environment that holds the wheel with its server extra."""
    folder = tmp_path_factory.mktemp("clean")
    _run([request.param, "-m", "venv", str(folder / "venv")], cwd=folder)
    bin_ = folder / "venv" / "bin"
    _run([str(bin_ / "python"), "-m", "pip", "install", "-qq", f"{wheel}[server]"], cwd=folder)
    return bin_


@pytest.fixture
def served(installed: Path, tmp_path: Path) -> Iterator[str]:
    """The URL of `metagame serve` out of the wheel."""
    server = subprocess.Popen(
        [installed / "metagame", "serve", "--port", "0"],
        cwd=tmp_path,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert server.stdout is not None
    try:
        for line in server.stdout:
            if found := re.search(r"http://127\.0\.0\.1:[1-9]\d*", line):
                yield found[0]
                break
        else:
            pytest.fail("the server ended before it said its address")
    finally:
        server.terminate()
        server.communicate(timeout=30)


def test_the_wheel_carries_both_packages_the_alias_the_manifest_and_the_scripts(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {
        "metagame",
        "meta_game",
        "metagame_server",
    }
    for needed in (
        *("metagame/openenv.yaml", "metagame/README.md"),
        *("metagame/py.typed", "meta_game/py.typed", "metagame_server/py.typed"),
    ):
        assert needed in names
    scripts = {Path(name).name for name in names if name.startswith("metagame_server/store/lua/")}
    assert scripts == {path.name for path in (ROOT / "services/store/lua").glob("*.lua")} != set()
    page = {Path(name).name for name in names if name.startswith("metagame_server/surfaces/static/")}
    assert page == {path.name for path in (ROOT / "services/surfaces/static").iterdir()} != set()


def test_the_demo_runs_out_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    command = [str(installed / "metagame"), "demo", "--episodes", "8", "--steps", "5", "--json"]
    shown = json.loads(_run(command, cwd=tmp_path))
    assert (shown["passed"], shown["episodes"], shown["steps"]) == (True, 8, 40)


def test_the_quick_start_runs_against_a_server_out_of_the_wheel(installed: Path, served: str, tmp_path: Path) -> None:
    _run([str(installed / "python"), "-W", "error", "-c", textwrap.dedent(QUICK_START), served], cwd=tmp_path)


def test_a_server_out_of_the_wheel_shows_the_readme(served: str) -> None:
    # Its address is said before it accepts connections.
    with httpx.Client(base_url=served, transport=httpx.HTTPTransport(retries=10), trust_env=False) as client:
        assert client.get("/metadata").json()["readme_content"] == (ROOT / "README.md").read_text()


def test_a_server_out_of_the_wheel_has_its_page(served: str) -> None:
    with httpx.Client(base_url=served, transport=httpx.HTTPTransport(retries=10), trust_env=False) as client:
        page = client.get("/", follow_redirects=True)
        assert page.content == (ROOT / "services/surfaces/static/index.html").read_bytes()


def test_type_checkers_see_the_types_of_the_alias(installed: Path, tmp_path: Path) -> None:
    script = tmp_path / "typed.py"
    script.write_text(
        "from meta_game import MetaGameAction, MetaGameEnv\n"
        'reveal_type(MetaGameEnv().step(MetaGameAction(message="x")).observation.echoed_message)\n'
    )
    shown = _run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(installed / "python"), str(script)],
        cwd=tmp_path,
    )
    assert 'Revealed type is "str"' in shown.replace("builtins.str", "str")


def test_a_base_install_names_the_extra_that_the_command_needs(wheel: Path, tmp_path: Path) -> None:
    _run([sys.executable, "-m", "venv", "venv"], cwd=tmp_path)
    python = tmp_path / "venv/bin/python"
    _run([str(python), "-m", "pip", "install", "-qq", str(wheel)], cwd=tmp_path)
    _run([str(python), "-c", "from meta_game import MetaGameAction, MetaGameEnv; MetaGameEnv()"], cwd=tmp_path)
    for command in ("metagame", "server"):
        done = subprocess.run([python.parent / command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert 'pip install "openenv-metagame[server]"' in done.stderr
        assert 'in a checkout: pip install ".[server]"' in done.stderr


def _run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    """Ours without what would lead back into the checkout."""
    return {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
