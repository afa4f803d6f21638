"""A worker on the shared Redis, its scripts known to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from tests.cost.clients import Http, Socket
from tests.cost.meters import Meter, Monitor
from tests.cost.served import Worker, worker
from tests.redis_servers import RedisServer

WARM_UP_STEPS = 200


@pytest.fixture
def served(redis_at: RedisServer) -> Iterator[Worker]:
    """A worker that has done all of this before, so that Redis has its scripts and Python its caches."""
    with _warm(redis_at.url) as one:
        yield one


@pytest.fixture
def served_in_memory() -> Iterator[Worker]:
    """The same with sessions in its memory."""
    with _warm(None) as one:
        yield one


@contextmanager
def _warm(redis_url: str | None) -> Iterator[Worker]:
    with worker(redis_url) as one:
        session_id = uuid4().hex
        for path in (f"/sessions/{session_id}/ws", f"/sessions/{session_id}/ws", "/ws"):
            with Socket(one.port, path) as socket:
                socket.reset()
                socket.reset()
                socket.state()
                for number in range(1, WARM_UP_STEPS + 1):
                    socket.step(number)
        with Http(one.port, session_id) as http:
            http.reset()
            http.step(1)
        yield one


@pytest.fixture
def path() -> str:
    """The socket path of a session that does not exist yet."""
    return f"/sessions/{uuid4().hex}/ws"


@pytest.fixture
def meter(redis_at: RedisServer) -> Iterator[Meter]:
    with Meter(redis_at.port) as one:
        yield one


@pytest.fixture
def monitor(redis_at: RedisServer) -> Iterator[Monitor]:
    """Not together with `meter`: what a monitor is shown counts as traffic."""
    with Monitor(redis_at.port) as one:
        yield one
