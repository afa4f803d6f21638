"""The synchronous client in threads, notebooks, forks, and at the end of a program."""

import asyncio
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from metagame import LocalTransport, MetaGameEnv, NoEpisode, SessionLost, SessionMoved, Unavailable
from metagame.wire.answers import Answer
from metagame.wire.requests import Request, ResetRequest, StateRequest, StepRequest
from tests.client.real_server import real_server

HELLO = {"message": "hello"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with real_server() as served:
        yield served


def test_many_threads_have_a_client_each(url: str) -> None:
    def play(number: int) -> list[str]:
        with MetaGameEnv(url) as env:
            env.reset()
            return [env.step({"message": f"{number}/{step}"}).observation.echoed_message for step in range(10)]

    with ThreadPoolExecutor(16) as pool:
        for number, seen in enumerate(pool.map(play, range(16))):
            assert seen == [f"{number}/{step}" for step in range(10)]


def test_threads_that_share_a_client_take_turns(url: str) -> None:
    with MetaGameEnv(url) as env, ThreadPoolExecutor(8) as pool:
        env.reset()
        steps = {result.metadata["step"] for result in pool.map(lambda _: env.step(HELLO), range(40))}
        assert steps == set(range(1, 41))


def test_it_works_inside_a_running_event_loop(url: str) -> None:
    async def cell() -> float | None:
        with MetaGameEnv(url) as env:
            env.reset()
            return env.step(HELLO).reward

    assert asyncio.run(cell()) == 0.5
    assert asyncio.run(cell()) == 0.5


class Interrupted(LocalTransport):
    """Interrupts the main thread when it is stepped, and never answers that step."""

    def __init__(self) -> None:
        super().__init__()
        self.armed = True
        self.cancelled = threading.Event()

    async def exchange(self, session_id: str, request: Request) -> Answer | None:
        answer = await super().exchange(session_id, request)
        if isinstance(request, StepRequest) and self.armed:
            self.armed = False
            os.kill(os.getpid(), signal.SIGINT)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return answer


@pytest.fixture
def interrupts() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where the tests were started with it ignored, as `make test &` does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_cancels_the_call_and_leaves_the_client_usable() -> None:
    transport = Interrupted()
    env = MetaGameEnv(transport=transport)
    env.reset()
    with pytest.raises(KeyboardInterrupt):
        env.step(HELLO)
    assert transport.cancelled.wait(10)
    with pytest.raises(SessionMoved):
        env.step(HELLO)
    assert env.state().step_count == 1
    assert env.step(HELLO).metadata["step"] == 2


class Stopped:
    """A transport of somebody's own: one verb is enough."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def exchange(self, session_id: str, request: Request) -> Answer | None:
        self.requests.append(request)
        message = "stopped"
        raise Unavailable(message, retryable=False)

    async def close(self) -> None:
        raise AssertionError("not the client's to close")  # noqa: EM101, TRY003 - a test's


def test_a_transport_of_ones_own_is_used_and_not_closed() -> None:
    transport = Stopped()
    with MetaGameEnv(transport=transport) as env, pytest.raises(Unavailable, match="stopped"):
        env.reset()
    assert isinstance(transport.requests[0], ResetRequest)
    assert not any(isinstance(request, StateRequest) for request in transport.requests)


def _in_child(env: MetaGameEnv, results: "multiprocessing.SimpleQueue[object]") -> None:
    try:
        env.step(HELLO)
    except NoEpisode:
        env.reset()
        results.put((env.session_id, env.step(HELLO).metadata["step"]))
        env.close()
    else:
        results.put("stepped the parent's session")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # a fork in a threaded process is the point
def test_a_forked_child_gets_a_session_of_its_own(url: str) -> None:
    forking = multiprocessing.get_context("fork")
    results: multiprocessing.SimpleQueue[object] = forking.SimpleQueue()
    with MetaGameEnv(url) as env:
        env.reset()
        env.step(HELLO)
        child = forking.Process(target=_in_child, args=(env, results))
        child.start()
        seen = results.get()
        child.join(30)
        assert child.exitcode == 0
        assert isinstance(seen, tuple), seen
        assert (seen[0] != env.session_id, seen[1]) == (True, 1)
        assert env.step(HELLO).metadata["step"] == 2


def test_a_client_that_is_forgotten_gives_up_its_socket_and_not_its_session(url: str) -> None:
    env = MetaGameEnv(url)
    env.reset(episode_id="kept")
    name = env.session_id
    del env
    gc.collect()
    with MetaGameEnv(url, session_id=name) as other:
        assert other.state().episode_id == "kept"


def test_a_forgotten_client_may_be_collected_while_another_ones_call_is_handed_over() -> None:
    """Python collects cycles wherever it stands, and so runs the client's finalizer there."""
    code = """
import asyncio, gc
from metagame import MetaGameEnv
from metagame.client import loop

def forget():
    env = MetaGameEnv()
    env.itself = env

loop.wait_for(asyncio.sleep(0))
gc.freeze()
for later in range(1, 400):
    gc.collect()
    gc.set_threshold(later)
    forget()
    loop.wait_for(asyncio.sleep(0))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("transport", ["websocket", "http"])
@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)", "signal.raise_signal(signal.SIGINT)"])
def test_a_program_that_never_closes_its_client_ends_quietly(url: str, transport: str, ending: str) -> None:
    url = url.replace("127.0.0.1", "localhost")
    code = f"""
import signal
from metagame import MetaGameEnv
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where the tests run
kept = MetaGameEnv({url!r}, transport={transport!r})
kept.reset()
also = MetaGameEnv({url!r}, transport={transport!r})
also.reset()
try:
    {ending or "pass"}
except KeyboardInterrupt:
    pass
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_closed_client_says_so_in_every_thread(url: str) -> None:
    env = MetaGameEnv(url)
    env.reset()
    env.close()
    with ThreadPoolExecutor(2) as pool, pytest.raises(SessionLost, match="closed"):
        pool.submit(env.state).result()
