from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import structlog

from metagame.games import Game
from metagame.games.echo import EchoGame
from services.engine import Engine
from services.store.base import SessionStore
from services.store.connect import open_client
from services.store.memory import MemoryStore
from services.store.redis import RedisStore
from tests.engine.asking import Socket
from tests.engine.scripted import ScriptedStore
from tests.fake_redis import fake_redis

MAX_SESSIONS = 100
TTL_MS = 60_000

EngineOf = Callable[..., Engine]


@pytest.fixture(autouse=True)
def plain_log() -> Iterator[None]:
    """Lines without decoration: structlog's own tracebacks take half a second each."""
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()])
    yield
    structlog.reset_defaults()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whatever steps by a socket does so in both ways."""
    if "Socket" in vars(metafunc.module):
        metafunc.parametrize("way", ["begun", "run"], indirect=True)


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Socket, "begins", getattr(request, "param", "run") == "begun")


@pytest.fixture(params=["memory", "fakeredis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedStore]:
    inner: SessionStore
    async with AsyncExitStack() as resources:
        if request.param == "memory":
            inner = MemoryStore(max_sessions=MAX_SESSIONS, ttl_ms=TTL_MS)
        else:
            client = open_client(await resources.enter_async_context(fake_redis()), timeout_s=5)
            inner = RedisStore(client, max_sessions=MAX_SESSIONS, ttl_ms=TTL_MS)
        yield ScriptedStore(inner)
        await inner.close()


@pytest.fixture
def engine_of(store: ScriptedStore) -> EngineOf:
    """Makes workers on the one store."""

    def make(game: Game | None = None, **options: Any) -> Engine:
        given: dict[str, Any] = {"max_sessions": MAX_SESSIONS, "timeout_s": 5.0} | options
        return Engine(game or EchoGame(), store, **given)

    return make


@pytest.fixture
def engine(engine_of: EngineOf) -> Engine:
    return engine_of()


@pytest.fixture
def other(engine_of: EngineOf) -> Engine:
    return engine_of()
