"""Redis hangs, is full, or is cut off, while clients step: none of them sees an error, and nothing is done by halves.

Requests without our client's patience stand for everybody else's: what they are told is checked
beside it. A restart and a script flush stand in test_redis_restarts.py.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.survival.conftest import TIMEOUT_S, Faulty, Pool
from tests.survival.load import CountingBalancer, Load
from tests.survival.sockets import Socket
from tests.survival.workers import Worker, http, until

pytestmark = pytest.mark.anyio
CLIENTS = 8
ACTION = {"action": {"message": "abc"}}


async def readiness(worker: Worker) -> Any:
    """What a balancer is told."""
    async with http(worker) as client:
        return (await client.get("/ready")).json()["status"]


async def is_ready(worker: Worker, *, ready: bool = True) -> None:
    """Wait until a balancer is told so."""
    status = "ready" if ready else "redis_unavailable"

    async def told() -> bool:
        return bool(await readiness(worker) == status)

    await until(told, f"/ready saying {status}")


async def test_a_hang_shorter_than_the_deadline_is_only_a_pause(pool: Pool, session_id: str) -> None:
    balancer = CountingBalancer([worker.port for worker in pool.workers])
    async with balancer.listening() as url, Load(url, clients=CLIENTS) as load:
        async with Socket(pool.workers[0], session_id) as socket:
            await socket.reset()
            with pool.redis.asleep():
                asked = [asyncio.create_task(socket.step(request_id="the-first"))]
                await asyncio.sleep(0.4 * TIMEOUT_S)  # the fault's length: longer than an attempt
            assert await asyncio.gather(*asked) == [1]
            assert await socket.step() == 2
        await load.goes_on()
        await load.finish()
        assert balancer.connections == CLIENTS, "somebody had to come again"


async def test_a_hang_longer_than_the_deadline_is_told_and_over_when_it_is_over(pool: Pool, session_id: str) -> None:
    balancer = CountingBalancer([worker.port for worker in pool.workers])
    async with balancer.listening() as url, Load(url, clients=CLIENTS) as load:
        async with Socket(pool.workers[0], session_id) as socket, http(pool.workers[1]) as client:
            await socket.reset()
            with pool.redis.asleep():
                refused, over_http = await asyncio.gather(
                    socket.ask("step", {"message": "abc"}, request_id="the-first"),
                    client.post(f"/sessions/{session_id}/step", json=ACTION | {"request_id": "the-first"}),
                )
                assert (refused["code"], refused["retryable"]) == ("SESSION_ERROR", True)
                assert (over_http.status_code, over_http.json()["retryable"]) == (503, True)
                for worker in pool.workers:
                    await is_ready(worker, ready=False)
            for worker in pool.workers:
                await is_ready(worker)
            assert await socket.step(request_id="the-first") == 1
            assert await socket.step(request_id="the-second") == 2
        await load.goes_on()
        await load.finish()


async def test_a_full_redis_refuses_steps_whole_and_lets_go_on_once_there_is_room(pool: Pool, session_id: str) -> None:
    balancer = CountingBalancer([worker.port for worker in pool.workers])
    async with balancer.listening() as url, Load(url, clients=CLIENTS) as load:
        async with Socket(pool.workers[0], session_id) as socket, http(pool.workers[1]) as client:
            await socket.ask("reset", {"episode_id": "one"})
            assert await socket.step() == 1
            other = (await client.post("/sessions")).json()["session_id"]
            with pool.redis.client() as redis:
                assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
                redis.config_set("maxmemory", "1")
                try:
                    for extra in ({}, {"request_id": "the-second"}):
                        refused = await socket.ask("step", {"message": "abc"}, **extra)
                        assert (refused["code"], refused["retryable"]) == ("SESSION_ERROR", True)
                        assert "outcome" not in refused, "it certainly did not happen"
                    over_http = await client.post(f"/sessions/{session_id}/step", json=ACTION)
                    assert (over_http.status_code, over_http.json()["retryable"]) == (503, True)
                    assert (await client.post("/reset")).status_code == 503
                    assert (await client.delete(f"/sessions/{other}")).status_code == 204
                    assert await readiness(pool.workers[0]) == "ready"  # what makes room still works
                    assert await socket.stands() == ("one", 1)
                    assert (await client.get(f"/sessions/{session_id}/state")).json()["step_count"] == 1
                finally:
                    redis.config_set("maxmemory", "0")
            assert await socket.step(request_id="the-second") == 2
        await load.goes_on()
        await load.finish()


async def test_a_cut_line_to_redis_is_told_by_its_worker_and_mended_by_itself(faulty: Faulty, session_id: str) -> None:
    balancer = CountingBalancer([faulty.worker.port, faulty.other.port])
    async with balancer.listening() as url, Load(url, clients=CLIENTS) as load:
        async with Socket(faulty.worker, session_id) as socket:
            await socket.reset()
            for _ in range(3):
                faulty.redis.go_away()
                await is_ready(faulty.worker, ready=False)
                assert await readiness(faulty.other) == "ready"
                faulty.redis.come_back()
                await is_ready(faulty.worker)
                await load.goes_on()
            faulty.redis.go_away()
            await is_ready(faulty.worker, ready=False)
            refused = await socket.ask("step", {"message": "abc"})
            assert (refused["retryable"], "outcome" in refused) == (True, False)
            faulty.redis.come_back()
            assert await socket.step() == 1
        await load.goes_on()
        await load.finish()
