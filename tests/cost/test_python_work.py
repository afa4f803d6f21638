"""What a step costs a worker in Python, counted and held: calls of functions, and what stays allocated.

Calls are counted on the event loop's thread, Python's and C's alike; a coroutine that goes on counts as called.
What runs inside C (uvloop, hiredis, orjson, pydantic's core) is not seen. To measure anew, after work on speed:

    python -m pytest tests/cost/test_python_work.py --capture no

prints the counts. CALLS is a tenth above Python 3.11's, which counts most; lower it when they fall.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from uuid import uuid4

import pytest

from tests.cost.clients import Http, Socket
from tests.cost.served import Worker

CALLS = {
    "step on a socket": 174,
    "step of 32 sockets at once": 145,
    "step over HTTP": 570,
}
CALLS_IN_MEMORY = 114
"""Of a step on a socket, no store away."""
STEPS = 100
SOCKETS_AT_ONCE = 32
ROUNDS = 10
BLOCKS_KEPT = 100
"""What may stay allocated after a long run: the last digits of counters, not a thing a step."""


class Count:
    """How often a thread called anything."""

    calls = 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """As `sys.setprofile` wants it."""
        if event in {"call", "c_call"}:
            self.calls += 1


@contextmanager
def counted(worker: Worker) -> Iterator[Count]:
    """The calls on the worker's event loop inside the block."""
    count = Count()
    worker.on_loop(lambda: sys.setprofile(count))
    try:
        yield count
    finally:
        worker.on_loop(lambda: sys.setprofile(None))


def one_socket(worker: Worker, stack: ExitStack) -> Callable[[], int]:
    socket = stack.enter_context(Socket(worker.port, f"/sessions/{uuid4().hex}/ws"))
    socket.reset()
    numbers = iter(range(1, sys.maxsize))

    def play() -> int:
        for _ in range(STEPS):
            socket.step(next(numbers))
        return STEPS

    return play


def sockets_at_once(worker: Worker, stack: ExitStack) -> Callable[[], int]:
    sockets = [stack.enter_context(Socket(worker.port, f"/sessions/{uuid4().hex}/ws")) for _ in range(SOCKETS_AT_ONCE)]
    for socket in sockets:
        socket.reset()
    numbers = iter(range(1, sys.maxsize))

    def play() -> int:
        for number in [next(numbers) for _ in range(STEPS // 10)]:
            with worker.standing_still():
                for socket in sockets:
                    socket.send_step()
            for socket in sockets:
                socket.expect_step(number)
        return STEPS // 10 * SOCKETS_AT_ONCE

    return play


def over_http(worker: Worker, stack: ExitStack) -> Callable[[], int]:
    http = stack.enter_context(Http(worker.port, uuid4().hex))
    http.reset()
    numbers = iter(range(1, sys.maxsize))

    def play() -> int:
        for _ in range(STEPS):
            http.step(next(numbers))
        return STEPS

    return play


WAYS = dict(zip(CALLS, (one_socket, sockets_at_once, over_http), strict=True))


@pytest.mark.parametrize("way", CALLS)
def test_a_step_is_this_many_calls(served: Worker, way: str) -> None:
    with ExitStack() as stack:
        play = WAYS[way](served, stack)
        play()
        with counted(served) as count:
            steps = play()
    print(f"{way}: {count.calls / steps:.1f} calls")  # noqa: T201 - for whoever lowers the bound
    assert count.calls / steps <= CALLS[way]


def test_a_step_in_memory_is_this_many_calls(served_in_memory: Worker) -> None:
    with ExitStack() as stack:
        play = one_socket(served_in_memory, stack)
        play()
        with counted(served_in_memory) as count:
            steps = play()
    print(f"step in memory: {count.calls / steps:.1f} calls")  # noqa: T201 - as above
    assert count.calls / steps <= CALLS_IN_MEMORY


@pytest.mark.parametrize("way", CALLS)
def test_a_long_run_keeps_nothing_a_step(served: Worker, way: str) -> None:
    with ExitStack() as stack:
        play = WAYS[way](served, stack)
        play()
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(ROUNDS):
            play()
        gc.collect()
        assert sys.getallocatedblocks() - before <= BLOCKS_KEPT
