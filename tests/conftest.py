"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.network import Turn
from tests.redis_servers import RedisServer, redis_cluster, redis_server
from tests.servers import Server, run_server

_turn = Turn()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Keep browsers and containers apart."""
    _turn.take(item)
    result = yield
    _turn.give(nextitem)
    return result


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def echo_server() -> Iterator[Server]:
    """A server of its own for each test module, on the memory store and the default settings."""
    with run_server() as server:
        yield server


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests that flush it and leave it running."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """One cluster of three masters, likewise."""
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@pytest.fixture
def redis_at(shared_redis: RedisServer) -> Iterator[RedisServer]:
    """The shared Redis, emptied; fails the test that leaves a key without a TTL."""
    with shared_redis.client() as client:
        client.flushall()
        yield shared_redis
        forever = [key for key in client.scan_iter() if client.pttl(key) == -1]
    assert forever == [], "keys without a TTL"


@pytest.fixture
def cluster_at(shared_cluster: list[RedisServer]) -> Iterator[list[RedisServer]]:
    """The shared cluster, emptied; fails the test that leaves a key without a TTL."""
    for server in shared_cluster:
        with server.client() as client:
            client.flushall()
    yield shared_cluster
    forever = []
    for server in shared_cluster:
        with server.client() as client:
            forever += [key for key in client.scan_iter() if client.pttl(key) == -1]
    assert forever == [], "keys without a TTL"
