"""Two workers of a Redis of their own, behind HAProxy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.balancer.haproxy import Balancer, balancer
from tests.redis_servers import RedisServer, redis_server
from tests.survival.workers import WAIT_S, Worker, start_all, workers

DRAIN_S = 20.0
Told = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers, their Redis, and the address that clients know."""

    redis: RedisServer
    workers: list[Worker]
    balancer: Balancer

    @property
    def urls(self) -> list[str]:
        """Every way to ask."""
        return [self.balancer.url, *[worker.url for worker in self.workers if worker.alive]]


def told(url: str) -> Told:
    """What the pool looks like to whoever asks there."""
    answer = httpx.get(f"{url}/pool", trust_env=False, timeout=WAIT_S)
    assert answer.status_code == 200, answer.text
    pool: Told = answer.json()
    return pool


def by_pid(pool: Told, worker: Worker) -> Told:
    """What is told of a worker; nothing if it is not listed."""
    pid = worker.server.process.pid
    return next((one for one in pool["workers"] if one["pid"] == pid), {})


@pytest.fixture(scope="package")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis"), durable=True) as server:
        yield server


@pytest.fixture(scope="package")
def pool_of_two(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    settings = {"METAGAME_DRAIN_TIMEOUT_S": str(DRAIN_S), "METAGAME_MAX_SESSIONS": "50"}
    with workers(2, METAGAME_REDIS_URL=redis.url, **settings) as two:
        ports = [worker.port for worker in two]
        with balancer(tmp_path_factory.mktemp("balancer"), ports) as one:
            yield Pool(redis, two, one)


@pytest.fixture
async def pool(pool_of_two: Pool) -> Pool:
    """Both run, and are in rotation; a test may leave one of them dead."""
    start_all(pool_of_two.workers)
    await pool_of_two.balancer.all_up(pool_of_two.workers)
    return pool_of_two
