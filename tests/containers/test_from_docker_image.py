"""from_docker_image: the quick start as people know it, and no container left behind, whatever happens."""

import asyncio
import gc
import os
import re
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from metagame import AsyncMetaGameEnv, CapacityReached, ContainerFailed, MetaGameAction, MetaGameEnv, SessionLost
from tests.containers.engine import IMAGE, ROOT, docker, inspect
from tests.containers.scripts import SlowDocker, containers_of, script, wait_gone

pytestmark = pytest.mark.usefixtures("image")

HELLO = MetaGameAction(message="hello")
END_S = 60
PROGRAMS: list[str] = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
STARTED = f"""
import os, sys, time
from metagame import MetaGameEnv
env = MetaGameEnv.from_docker_image({IMAGE!r})
env.reset()
env.step({{"message": "hello"}})
print("stepped", flush=True)
"""


@pytest.fixture(autouse=True)
def _nothing_stays() -> object:
    """Fails the test that leaves a container of this process."""
    yield
    gc.collect()
    wait_gone(os.getpid())


def quick_start() -> str:
    """The README's first program, on a container of its own."""
    code = PROGRAMS[0].replace(
        'MetaGameEnv(base_url="http://localhost:8000")', f'MetaGameEnv.from_docker_image("{IMAGE}")'
    )
    assert f'env = MetaGameEnv.from_docker_image("{IMAGE}")' in code
    return code


def test_the_quick_start_runs_on_a_container_of_its_own(tmp_path: Path) -> None:
    with script(quick_start(), tmp_path) as process:
        said, wrong = process.communicate(timeout=END_S)
        left = containers_of(process.pid)
    assert (process.returncode, wrong, left) == (0, "", [])
    assert said.splitlines() == [
        "Meta Game environment ready!",
        *("Hello, World!", "13", "1.3"),
        *("Testing echo", "12", "1.2"),
        *("Final message", "13", "1.3"),
    ]


@pytest.mark.parametrize(
    ("ending", "code", "wrong"),
    [
        ("", 0, ""),
        ("raise ValueError('of the script')", 1, "ValueError: of the script"),
        ("sys.exit(3)", 3, ""),
    ],
)
def test_a_script_that_ends_without_close_leaves_no_container(
    tmp_path: Path, ending: str, code: int, wrong: str
) -> None:
    with script(STARTED + ending, tmp_path) as process:
        said, errors = process.communicate(timeout=END_S)
        left = containers_of(process.pid)
    assert (process.returncode, said, left) == (code, "stepped\n", [])
    assert errors.strip().endswith(wrong)
    assert bool(errors) == bool(wrong)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_script_that_is_killed_leaves_no_container(tmp_path: Path, number: int) -> None:
    with script(STARTED + "time.sleep(600)", tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stepped\n"
        assert len(containers_of(process.pid)) == 1
        process.send_signal(number)
        assert process.wait(END_S) == -number
        wait_gone(process.pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_script_that_ends_while_its_container_starts_leaves_none(tmp_path: Path, number: int) -> None:
    """The whole process group gets the signal, as from Ctrl-C on a terminal, before the engine has a container."""
    slow = SlowDocker(tmp_path)
    interruptible = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    with script(interruptible + STARTED, tmp_path, slow.environment) as process:
        slow.wait_running()
        os.killpg(process.pid, number)
        if number == signal.SIGKILL:
            process.wait(END_S)
        slow.go_on()
        process.wait(END_S)
        slow.wait_done("run")
        slow.wait_done("rm")
        assert containers_of(process.pid) == []
    assert process.returncode == -number


FORKS = """
child = os.fork()
if child == 0:
    env.reset()
    env.step({"message": "of the child"})
    env.close()
    print("child closed", flush=True)
    time.sleep(600)
time.sleep(600)
"""


def test_a_forked_child_neither_ends_nor_keeps_its_parents_container(tmp_path: Path) -> None:
    code = "import warnings\nwarnings.filterwarnings('ignore', '.*fork.*', DeprecationWarning)\n" + STARTED + FORKS
    with script(code, tmp_path) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["stepped\n", "child closed\n"]
        [kept] = containers_of(process.pid)
        assert inspect(kept)["State"]["Running"]
        process.kill()
        process.wait()
        try:
            wait_gone(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # the child, which outlives its parent


def test_a_client_that_is_forgotten_lets_its_container_go() -> None:
    env = MetaGameEnv.from_docker_image(IMAGE)
    env.reset()
    assert len(containers_of(os.getpid())) == 1
    del env
    gc.collect()
    wait_gone(os.getpid())


def test_close_removes_the_container_and_again_is_no_error() -> None:
    env = MetaGameEnv.from_docker_image(IMAGE)
    assert env.base_url.startswith("http://127.0.0.1:")
    env.reset()
    assert len(containers_of(os.getpid())) == 1
    env.close()
    assert containers_of(os.getpid()) == []
    env.close()
    with pytest.raises(SessionLost, match="closed"):
        env.reset()


def test_threads_have_a_container_each() -> None:
    both = threading.Barrier(2)

    def play(number: int) -> tuple[str, int]:
        with MetaGameEnv.from_docker_image(IMAGE, session_id="same-name") as env:
            both.wait(END_S)
            env.reset()
            for _ in range(number):
                env.step(HELLO)
            both.wait(END_S)
            return env.base_url, env.state().step_count

    with ThreadPoolExecutor(2) as pool:
        (one, steps), (other, more_steps) = pool.map(play, (1, 2))
    assert one != other
    assert (steps, more_steps) == (1, 2)


def test_settings_reach_the_server_and_no_list_of_processes() -> None:
    secret = "only-the-server-sees-this"
    variables = {"METAGAME_MAX_SESSIONS": "1", "METAGAME_NOTE": f" {secret} = #1 "}
    with MetaGameEnv.from_docker_image(IMAGE, env_vars=variables, transport="http") as env:
        env.reset()
        with MetaGameEnv(env.base_url) as refused, pytest.raises(CapacityReached):
            refused.reset()
        [mine] = containers_of(os.getpid())
        assert f"METAGAME_NOTE= {secret} = #1 " in inspect(mine)["Config"]["Env"]
        assert secret not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


@pytest.mark.anyio
async def test_the_asynchronous_client_starts_and_ends_one_beside_the_loop() -> None:
    ticks, ended = 0, asyncio.Event()

    async def tick() -> None:
        nonlocal ticks
        while not ended.is_set():
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.ensure_future(tick())
    async with await AsyncMetaGameEnv.from_docker_image(IMAGE) as env:
        ticks_of_start = ticks
        await env.reset()
        assert (await env.step(HELLO)).reward == 0.5
        before_close = ticks
    ended.set()
    await ticking
    assert ticks_of_start > 10
    assert ticks > before_close
    assert containers_of(os.getpid()) == []


@pytest.mark.anyio
async def test_a_start_that_is_cancelled_leaves_no_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowDocker(tmp_path)
    monkeypatch.setenv("PATH", slow.environment["PATH"])
    starting = asyncio.ensure_future(AsyncMetaGameEnv.from_docker_image(IMAGE))
    await asyncio.to_thread(slow.wait_running)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    slow.go_on()
    await asyncio.to_thread(slow.wait_done, "run")
    await asyncio.to_thread(slow.wait_done, "rm")
    assert containers_of(os.getpid()) == []


def test_a_container_that_dies_is_told_at_once() -> None:
    """It took its sessions with it: asking for a minute would not bring them back."""
    env = MetaGameEnv.from_docker_image(IMAGE, deadline_s=END_S)
    try:
        env.reset()
        docker("kill", *containers_of(os.getpid()))
        began = time.monotonic()
        with pytest.raises(ContainerFailed, match="it ended with exit code 137") as failed:
            env.step(HELLO)
        assert time.monotonic() - began < END_S / 2
        assert failed.value.cause == "exited"
        assert "serving on" in failed.value.log
    finally:
        env.close()
