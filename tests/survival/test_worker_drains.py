"""SIGTERM: what a leaving worker finishes, whom it tells, and how soon it is gone."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from time import monotonic

import httpx
import pytest

from tests.survival.conftest import DRAIN_S, Faulty, Pool
from tests.survival.load import CLIENTS, CountingBalancer, Load
from tests.survival.sockets import ConnectionClosed, Socket
from tests.survival.workers import http, running, until

pytestmark = pytest.mark.anyio
SLACK_S = 2.0
"""What a busy machine may add."""


async def test_a_rolling_restart_under_load_is_not_seen_by_clients(pool: Pool) -> None:
    balancer = CountingBalancer([worker.port for worker in pool.workers])
    async with balancer.listening() as url, Load(url) as load:
        for worker in pool.workers:
            asked = monotonic()
            worker.send(signal.SIGTERM)
            assert await worker.exit_code() == 0
            assert monotonic() - asked < DRAIN_S + SLACK_S
            await load.goes_on()
            await running(worker)
        await load.goes_on()
        await load.finish()
        assert balancer.connections > CLIENTS


async def test_a_named_socket_is_closed_with_1012_behind_its_answer(pool: Pool, session_id: str) -> None:
    leaving, staying = pool.workers
    async with Socket(leaving, session_id) as socket:
        await socket.ask("reset", {"episode_id": "one"})
        answered = 0
        with suppress(ConnectionClosed):
            while True:
                assert await socket.step() == answered + 1
                answered += 1
                if answered == 20:
                    leaving.send(signal.SIGTERM)
        assert await socket.close_code() == 1012
    async with Socket(staying, session_id) as socket:
        assert await socket.stands() == ("one", answered)
    await leaving.exit_code()


async def test_a_step_in_the_works_is_answered_before_its_socket_is_closed(faulty: Faulty, session_id: str) -> None:
    async with Socket(faulty.worker, session_id) as socket:
        await socket.reset()
        assert await socket.step() == 1
        faulty.redis.hold_calls("commit")
        await socket.send("step", {"message": "abc"})
        await until(lambda: faulty.redis.held, "the commit")
        faulty.worker.send(signal.SIGTERM)
        await until(lambda: "worker draining" in faulty.worker.server.log, "the drain")
        faulty.redis.release()
        assert (await socket.receive())["data"]["metadata"]["step"] == 2
        assert await socket.close_code() == 1012
    await faulty.worker.exit_code()


async def test_a_worker_whose_redis_hangs_leaves_in_time_all_the_same(pool: Pool, session_id: str) -> None:
    leaving = pool.workers[0]
    async with Socket(leaving, session_id) as named, Socket(leaving) as anonymous:
        await named.reset()
        await anonymous.reset()
        with pool.redis.asleep():
            await named.send("step", {"message": "abc"})
            asked = monotonic()
            leaving.send(signal.SIGTERM)
            assert await leaving.exit_code() == 0
            assert monotonic() - asked < DRAIN_S + SLACK_S
    assert "Traceback" not in leaving.server.log


async def test_a_worker_leaves_at_its_deadline_whatever_is_left(pool: Pool) -> None:
    leaving = pool.workers[0]
    reader, writer = await asyncio.open_connection("127.0.0.1", leaving.port)
    try:
        # A body that never comes: the request is in flight for ever.
        writer.write(b"POST /reset HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        await writer.drain()
        async with http(leaving) as client:  # answered behind it: the worker has read the request
            await client.get("/health")
        asked = monotonic()
        leaving.send(signal.SIGTERM)
        assert await leaving.exit_code() == 0
        assert monotonic() - asked < DRAIN_S + SLACK_S
        assert "worker leaves at its deadline" in leaving.server.log
        assert await reader.read() == b""
    finally:
        writer.close()


async def test_an_http_request_in_the_works_is_answered(faulty: Faulty, session_id: str) -> None:
    async with http(faulty.worker) as client:
        await client.post(f"/sessions/{session_id}/reset")
        body = {"action": {"message": "abc"}}
        assert (await client.post(f"/sessions/{session_id}/step", json=body)).status_code == 200
        faulty.redis.hold_calls("commit")
        asked = asyncio.create_task(client.post(f"/sessions/{session_id}/step", json=body))
        await until(lambda: faulty.redis.held, "the commit")
        faulty.worker.send(signal.SIGTERM)
        await until(lambda: "worker drained" in faulty.worker.server.log, "the drain")
        faulty.redis.release()
        assert (await asked).json()["metadata"]["step"] == 2
        await faulty.worker.exit_code()


async def test_a_leaving_worker_takes_no_new_connection_and_says_so_on_those_it_has(pool: Pool) -> None:
    leaving, staying = pool.workers
    # The anonymous socket keeps the worker until its deadline.
    async with http(leaving) as kept, Socket(leaving) as anonymous:
        await anonymous.reset()
        assert (await kept.get("/ready")).json() == {"status": "ready"}
        asked = monotonic()
        leaving.send(signal.SIGTERM)
        await until(lambda: "worker draining" in leaving.server.log, "the drain")
        answer = await kept.get("/ready")
        assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
        with pytest.raises(httpx.ConnectError):
            async with http(leaving) as new:
                await new.get("/health")
        assert await anonymous.step() == 1
        assert await anonymous.close_code() == 1012
        assert await leaving.exit_code() == 0
        assert monotonic() - asked < DRAIN_S + SLACK_S
    async with Socket(staying) as another:
        refused = await another.ask("step", {"message": "abc"})
        assert refused["code"] == "SESSION_ERROR"
        assert "reset" in refused["message"].lower()
