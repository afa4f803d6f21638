"""What a session costs Redis in memory, counted and held.

As Redis itself counts what it has allocated: record, requests remembered, place, TTL and the share of its tables.
MADE and STEPPED are what pools are sized by; the figures measured with Redis 7.0 and jemalloc stand behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.cost.clients import Http
from tests.cost.meters import Meter
from tests.cost.served import Worker

MADE_BYTES = 400  # measured: 366
"""A session of `POST /sessions`, before anything was asked of it."""
STEPPED_BYTES = 650  # measured: 606
"""One that has made a step with a request id, and remembers reset and step with the newest answer."""
FULL_BYTES = 820  # measured: 765
"""One that remembers as many requests as a session does."""
SESSIONS = 500
MOST_REMEMBERED = 8


@dataclass(frozen=True, slots=True)
class Session:
    """What was asked of a session, and the most that it may cost then."""

    name: str
    ask: Callable[[Http], None]
    bytes_at_most: int


def _made(http: Http) -> None:
    http.make()


def _stepped(http: Http) -> None:
    http.make()
    http.reset()
    http.step(1)


def _full(http: Http) -> None:
    _stepped(http)
    for number in range(2, MOST_REMEMBERED + 1):
        http.step(number)


CASES = [
    Session("made", _made, MADE_BYTES),
    Session("stepped", _stepped, STEPPED_BYTES),
    Session("remembering all it can", _full, FULL_BYTES),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_session_takes_this_much_of_redis_memory(served: Worker, meter: Meter, case: Session) -> None:
    with Http(served.port) as http:
        case.ask(http)  # the pool's own keys, and buffers of connections
        before = meter.used_memory()
        for _ in range(SESSIONS):
            case.ask(http)
        assert (meter.used_memory() - before) / SESSIONS <= case.bytes_at_most
