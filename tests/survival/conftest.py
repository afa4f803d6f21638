"""Redis and workers that survive from test to test; a test may leave its workers dead."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

import pytest

from tests.redis_servers import RedisServer, free_port, redis_server
from tests.survival.redis_proxy import RedisProxy, redis_proxy
from tests.survival.stock import StockClients, interpreter, stock_clients
from tests.survival.workers import Worker, running, start_all, workers

TIMEOUT_S = 2.5
DRAIN_S = 3.0


@dataclass(frozen=True, slots=True)
class Pool:
    """Workers of one Redis."""

    redis: RedisServer
    workers: list[Worker]


@pytest.fixture(scope="session")
def stock() -> Iterator[StockClients]:
    """The client of OpenEnv 0.10, unmodified."""
    python = interpreter("METAGAME_TEST_OPENENV_PYTHON", ".venvs/openenv-0.10")
    with stock_clients("env_client", python) as clients:
        yield clients


@pytest.fixture(scope="session")
def stock_http() -> Iterator[StockClients]:
    """The HTTP client of openenv-core 0.1.1, unmodified."""
    python = interpreter("METAGAME_TEST_OPENENV_011_PYTHON", ".venvs/openenv-0.1.1")
    with stock_clients("http_client", python) as clients:
        yield clients


@pytest.fixture
def session_id() -> str:
    return uuid4().hex


@pytest.fixture(scope="session")
def durable_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that keeps every acknowledged write over a crash."""
    with redis_server(tmp_path_factory.mktemp("durable"), durable=True) as server:
        yield server


@pytest.fixture(scope="session")
def pool_workers(durable_redis: RedisServer) -> Iterator[list[Worker]]:
    settings = {"METAGAME_REDIS_TIMEOUT_S": str(TIMEOUT_S), "METAGAME_DRAIN_TIMEOUT_S": str(DRAIN_S)}
    with workers(2, METAGAME_REDIS_URL=durable_redis.url, **settings) as two:
        yield two


@pytest.fixture
def pool(durable_redis: RedisServer, pool_workers: list[Worker]) -> Pool:
    """Two workers, both running."""
    start_all(pool_workers)
    return Pool(durable_redis, pool_workers)


@pytest.fixture(scope="session")
def worker_behind_proxy() -> Iterator[tuple[Worker, int]]:
    """A worker, not started, whose Redis is at a port where a proxy will listen; and that port."""
    port = free_port()
    settings = {"METAGAME_REDIS_TIMEOUT_S": str(TIMEOUT_S), "METAGAME_DRAIN_TIMEOUT_S": str(DRAIN_S)}
    worker = Worker(METAGAME_REDIS_URL=f"redis://127.0.0.1:{port}", **settings)
    yield worker, port
    worker.end()


@dataclass(frozen=True, slots=True)
class Faulty:
    """A worker whose line to Redis a test controls, and another worker of the same pool."""

    worker: Worker
    redis: RedisProxy
    other: Worker


@pytest.fixture
async def faulty(pool: Pool, worker_behind_proxy: tuple[Worker, int]) -> AsyncIterator[Faulty]:
    worker, port = worker_behind_proxy
    async with redis_proxy(port, pool.redis.port) as proxy:
        if not worker.alive:
            await running(worker)
        yield Faulty(worker, proxy, pool.workers[0])
        with suppress(ProcessLookupError):
            worker.send(signal.SIGCONT)
        proxy.release()
