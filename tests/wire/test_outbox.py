"""When answers are written: at once, unless another was a moment ago; and never later than the turn's end."""

from __future__ import annotations

import asyncio

import pytest

from services.surfaces.outbox import GROUP_NS, Outbox
from tests.wire.raw_sockets import Wire

pytestmark = pytest.mark.anyio


class Clock:
    """A clock that stands still until told."""

    now_ns = 10 * GROUP_NS

    def __call__(self) -> int:
        return self.now_ns


class Sockets:
    """An outbox and a few transports that write down in which order they were written to."""

    def __init__(self, count: int) -> None:
        self.clock = Clock()
        self.outbox = Outbox(self.clock)
        self.written: list[int] = []
        self.wires = [Noted(number, self.written) for number in range(count)]

    def put(self, *numbers: int) -> None:
        for number in numbers:
            self.outbox.put(self.wires[number], b"answer")


class Noted(Wire):
    """A transport that writes down its number for each write."""

    def __init__(self, number: int, written: list[int]) -> None:
        super().__init__()
        self._number = number
        self._order = written

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        self._order.append(self._number)


async def test_a_lone_answer_is_written_at_once() -> None:
    sockets = Sockets(1)
    for _ in range(3):
        before = len(sockets.written)
        sockets.put(0)
        assert len(sockets.written) == before + 1
        sockets.clock.now_ns += GROUP_NS


async def test_answers_close_behind_another_wait_until_the_turn_ends_and_no_longer() -> None:
    sockets = Sockets(4)
    sockets.put(0, 1, 2, 3)
    assert sockets.written == [0]
    await asyncio.sleep(0)
    assert sockets.written == [0, 1, 2, 3]


async def test_the_moment_over_the_next_answer_takes_all_that_wait_along_in_order() -> None:
    sockets = Sockets(4)
    sockets.put(0, 1, 2)
    sockets.clock.now_ns += GROUP_NS
    sockets.put(3)
    assert sockets.written == [0, 1, 2, 3]
    sockets.put(0)
    assert sockets.written == [0, 1, 2, 3]
    await asyncio.sleep(0)
    assert sockets.written == [0, 1, 2, 3, 0]


async def test_slow_answers_are_not_held() -> None:
    sockets = Sockets(5)
    for number in range(5):
        sockets.put(number)
        assert sockets.written == list(range(number + 1))
        sockets.clock.now_ns += 10 * GROUP_NS


async def test_a_turn_that_begins_a_moment_after_the_last_one_ends_is_written_whole() -> None:
    sockets = Sockets(3)
    sockets.put(0)
    for _ in range(3):
        await asyncio.sleep(0)
        sockets.put(1, 2)
    await asyncio.sleep(0)
    assert sockets.written == [0, 1, 2, 1, 2, 1, 2]


async def test_one_socket_that_closed_takes_nothing_from_the_others() -> None:
    sockets = Sockets(4)
    sockets.put(0, 1, 2, 3)
    sockets.wires[2].close()
    sockets.outbox.flush()
    assert sockets.written == [0, 1, 3]


async def test_nothing_is_written_to_a_socket_that_closed_before_its_answer() -> None:
    sockets = Sockets(2)
    for wire in sockets.wires:
        wire.close()
    sockets.put(0, 1)
    await asyncio.sleep(0)
    assert sockets.written == []
