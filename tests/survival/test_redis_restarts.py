"""Redis crashes, forgets its scripts, or is away for a while: workers and sockets stay."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from tests.survival.conftest import TIMEOUT_S, Pool
from tests.survival.load import CountingBalancer, Load
from tests.survival.sockets import Socket
from tests.survival.workers import http, until

pytestmark = pytest.mark.anyio
SLACK_S = 1.5
"""What a busy machine may add."""


async def test_redis_restarted_under_load_loses_and_repeats_nothing(pool: Pool) -> None:
    balancer = CountingBalancer([worker.port for worker in pool.workers])
    async with balancer.listening() as url, Load(url) as load:
        for _ in range(3):
            await asyncio.to_thread(pool.redis.restart)
            await load.goes_on()
        await load.finish()


async def test_scripts_flushed_under_load_come_back_by_themselves(pool: Pool) -> None:
    balancer = CountingBalancer([worker.port for worker in pool.workers])
    async with balancer.listening() as url, Load(url) as load:
        with pool.redis.client() as redis:
            for _ in range(10):
                await asyncio.to_thread(redis.script_flush)
                await load.goes_on(2)
        await load.finish()


async def test_while_redis_is_away_requests_say_retry_and_the_same_request_then_happens_once(
    pool: Pool, session_id: str
) -> None:
    worker, other = pool.workers
    async with http(worker) as client, Socket(worker, session_id) as socket:
        await socket.ask("reset", {"episode_id": "one"})
        assert await socket.step() == 1
        await asyncio.to_thread(pool.redis.stop)
        try:
            ready = await client.get("/ready")
            assert (ready.status_code, ready.json()) == (503, {"status": "redis_unavailable"})
            asked = monotonic()
            refused = await socket.ask("step", {"message": "abc"}, request_id="the-second")
            assert monotonic() - asked < TIMEOUT_S + SLACK_S
            assert (refused["code"], refused["retryable"]) == ("SESSION_ERROR", True)
            over_http = await client.post(
                f"/sessions/{session_id}/step", json={"action": {"message": "abc"}, "request_id": "another"}
            )
            assert (over_http.status_code, over_http.json()["retryable"]) == (503, True)
            assert (await client.get("/health")).status_code == 200
        finally:
            await asyncio.to_thread(pool.redis.start)

        async def ready_again() -> bool:
            return (await client.get("/ready")).status_code == 200

        await until(ready_again, "readiness")
        assert await socket.step(request_id="the-second") == 2
        assert await socket.step(request_id="the-second") == 2
        assert await socket.stands() == ("one", 2)
    async with Socket(other, session_id) as socket:
        assert await socket.step(request_id="the-second") == 2
        assert await socket.step() == 3
