"""HAProxy before real workers: the survival tests' workers and Redis, started for this package too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.balancer.haproxy import Balancer, balancer
from tests.survival.conftest import (
    Faulty,
    Pool,
    durable_redis,
    faulty,
    pool,
    pool_workers,
    session_id,
    stock,
    worker_behind_proxy,
)
from tests.survival.redis_proxy import RedisProxy
from tests.survival.workers import WAIT_S, Worker

__all__ = ["durable_redis", "faulty", "pool", "pool_workers", "session_id", "stock", "worker_behind_proxy"]


@dataclass(frozen=True, slots=True)
class Balanced:
    """A balancer before workers w1 and w2; `redis` stands between w1 and its Redis, in tests that hold that back."""

    balancer: Balancer
    workers: list[Worker]
    redis: RedisProxy | None = None

    @property
    def url(self) -> str:
        return self.balancer.url

    async def all_up(self) -> None:
        """Wait until every worker that runs is in rotation."""
        await self.balancer.all_up(self.workers)

    def count(self, column: str) -> int:
        """A counter of the stats page, over all workers."""
        return sum(int(row[column] or 0) for row in self.balancer.stats().values())


@pytest.fixture
async def balanced(pool: Pool, tmp_path: Path) -> AsyncIterator[Balanced]:
    """Two workers, both in rotation."""
    with balancer(tmp_path, [worker.port for worker in pool.workers]) as one:
        both = Balanced(one, pool.workers)
        await both.all_up()
        yield both


@pytest.fixture
async def faulty_first(faulty: Faulty, tmp_path: Path) -> AsyncIterator[Balanced]:
    """The same, where w1 is the worker whose line to Redis the test holds back."""
    with balancer(tmp_path, [faulty.worker.port, faulty.other.port]) as one:
        both = Balanced(one, [faulty.worker, faulty.other], faulty.redis)
        await both.all_up()
        yield both


@pytest.fixture
async def http(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """Requests through whichever of the two balancers the test asked for."""
    name = "faulty_first" if "faulty_first" in request.fixturenames else "balanced"
    both: Balanced = request.getfixturevalue(name)
    async with httpx.AsyncClient(base_url=both.url, trust_env=False, timeout=WAIT_S) as client:
        yield client
