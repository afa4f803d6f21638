"""The four backends that every store test body runs over."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from services.store.base import SessionStore
from services.store.connect import open_client
from services.store.memory import MemoryStore
from services.store.redis import RedisStore
from tests.fake_redis import fake_redis

Settings = dict[str, Any]
DEFAULTS: Settings = {"max_sessions": 100, "ttl_ms": 60_000}

SOON: Settings = {"reserved_ms": 100}
"""A new place is doubtful almost at once, so that examination is seen at work."""


@dataclass
class Backend:
    """Opens stores, several on one pool where the backend can."""

    open_one: Callable[[Settings], SessionStore]
    opened: list[SessionStore] = field(default_factory=list)

    def store(self, **settings: Any) -> SessionStore:
        store = self.open_one(DEFAULTS | settings)
        self.opened.append(store)
        return store

    def redis_store(self, **settings: Any) -> RedisStore:
        store = self.store(**settings)
        assert isinstance(store, RedisStore)
        return store

    async def close(self) -> None:
        for store in self.opened:
            await store.close()


@contextlib.asynccontextmanager
async def _url(name: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    match name:
        case "fakeredis":
            async with fake_redis() as url:
                yield url
        case "redis":
            yield request.getfixturevalue("redis_at").url
        case _:
            nodes = request.getfixturevalue("cluster_at")
            yield "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


def _opener(url: str) -> Callable[[Settings], SessionStore]:
    return lambda settings: RedisStore(open_client(url, timeout_s=9), **SOON | settings)


async def _backend(name: str, request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    if name == "memory":
        backend = Backend(lambda settings: MemoryStore(**settings))
        yield backend
        await backend.close()
        return
    async with _url(name, request) as url:
        backend = Backend(_opener(url))
        yield backend
        await backend.close()


@pytest.fixture(params=["memory", "fakeredis", "redis", "cluster"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    """Each backend in turn."""
    async for opened in _backend(request.param, request):
        yield opened


@pytest.fixture(params=["fakeredis", "redis", "cluster"])
async def shared_backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    """The backends on which several stores share one pool."""
    async for opened in _backend(request.param, request):
        yield opened


@pytest.fixture
async def store(backend: Backend) -> SessionStore:
    """One store with room for a hundred sessions."""
    return backend.store()
