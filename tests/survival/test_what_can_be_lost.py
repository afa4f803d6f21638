"""What each way of running Redis can lose of acknowledged steps, as far as one machine can show it.

A process that is killed loses nothing that the kernel has, so a kill shows no loss with
`everysec`: only a machine that stops does. Its effect, a file that ends earlier, is made by hand.
`always` stands in test_redis_restarts.py, failovers in test_sentinel_failover.py.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import httpx
import pytest

from metagame import AsyncMetaGameEnv, MetaGameAction
from metagame.errors import SessionLost, SessionMoved
from tests.redis_servers import RedisServer, redis_server
from tests.survival.load import CountingBalancer, Load
from tests.survival.workers import Worker, http, until, workers

pytestmark = pytest.mark.anyio
EVERY_SECOND = ("--appendonly", "yes", "--appendfsync", "everysec")
Transport = Literal["websocket", "http"]
ACTION = MetaGameAction(message="abc")
CLIENTS = 6


@contextmanager
def two_workers(redis: RedisServer) -> Iterator[list[Worker]]:
    with workers(2, METAGAME_REDIS_URL=redis.url, METAGAME_REDIS_TIMEOUT_S="2.5") as two:
        yield two


async def ready(several: list[Worker]) -> None:
    for worker in several:
        async with http(worker) as client:

            async def is_ready(asked: httpx.AsyncClient = client) -> bool:
                return (await asked.get("/ready")).status_code == 200

            await until(is_ready, "readiness")


async def test_with_everysec_a_killed_redis_process_loses_nothing(tmp_path: Path) -> None:
    with redis_server(tmp_path, *EVERY_SECOND) as redis, two_workers(redis) as two:
        balancer = CountingBalancer([worker.port for worker in two])
        async with balancer.listening() as url, Load(url, clients=CLIENTS) as load:
            for _ in range(3):
                await asyncio.to_thread(redis.restart)
                await load.goes_on()
            await load.finish()


@pytest.mark.parametrize("transport", ["websocket", "http"])
async def test_steps_that_a_stopped_machine_took_from_the_disk_are_told_to_their_client(
    tmp_path: Path, transport: Transport
) -> None:
    with redis_server(tmp_path, *EVERY_SECOND) as redis, two_workers(redis) as two:
        async with AsyncMetaGameEnv(two[0].url, transport=transport) as env:
            await env.reset(episode_id="one")
            for _ in range(3):
                await env.step(ACTION)
            on_disk = log_of(redis).stat().st_size
            for _ in range(2):
                await env.step(ACTION)
            redis.stop()
            os.truncate(log_of(redis), on_disk)
            await asyncio.to_thread(redis.start)
            await ready(two)
            with pytest.raises(SessionMoved) as told:
                await env.step(ACTION)
            assert (told.value.fields["episode_id"], told.value.fields["step_count"]) == ("one", 3)
            state = await env.state()
            assert (state.episode_id, state.step_count) == ("one", 3)
            assert (await env.step(ACTION)).metadata["step"] == 4


@pytest.mark.parametrize("transport", ["websocket", "http"])
async def test_a_session_that_was_nowhere_on_disk_is_told_to_be_lost(tmp_path: Path, transport: Transport) -> None:
    with redis_server(tmp_path) as redis, two_workers(redis) as two:
        async with AsyncMetaGameEnv(two[0].url, transport=transport) as env:
            await env.reset()
            await env.step(ACTION)
            await asyncio.to_thread(redis.restart)
            await ready(two)
            with pytest.raises(SessionLost):
                await env.step(ACTION)


def log_of(redis: RedisServer) -> Path:
    """The file that Redis appends to."""
    [path] = redis.directory.glob("appendonlydir/*.incr.aof")
    return path
