"""SIGKILL of a worker: between steps, and with a step in its hands."""

from __future__ import annotations

import asyncio

import pytest

from metagame import AsyncMetaGameEnv, MetaGameAction
from tests.survival.conftest import Faulty, Pool
from tests.survival.load import CLIENTS, CountingBalancer, Load
from tests.survival.sockets import ConnectionClosed, Socket
from tests.survival.workers import http, running, until

pytestmark = pytest.mark.anyio


async def test_clients_go_on_at_the_next_step_while_workers_are_killed_one_after_the_other(pool: Pool) -> None:
    balancer = CountingBalancer([worker.port for worker in pool.workers])
    async with balancer.listening() as url, Load(url) as load:
        for worker in pool.workers:
            await load.goes_on()
            worker.kill()
            await load.goes_on()
            await running(worker)
        await load.goes_on()
        await load.finish()
        assert balancer.connections > CLIENTS


async def test_a_client_between_two_steps_does_not_notice_that_its_worker_died(pool: Pool) -> None:
    balancer = CountingBalancer([worker.port for worker in pool.workers])
    async with balancer.listening() as url, AsyncMetaGameEnv(url) as env:
        await env.reset(episode_id="one")
        for number, worker in enumerate(pool.workers, 1):
            assert (await env.step(MetaGameAction(message="abc"))).metadata["step"] == number
            worker.kill()
            await running(worker)
        assert (await env.state()).episode_id == "one"


@pytest.mark.parametrize(
    ("reached_redis", "stands"), [(False, 3), (True, 4)], ids=["before the commit", "after the commit"]
)
async def test_a_bare_socket_in_mid_step_gets_an_error_and_the_step_counted_once_or_not_at_all(
    faulty: Faulty, session_id: str, reached_redis: bool, stands: int
) -> None:
    async with Socket(faulty.worker, session_id) as socket:
        await socket.ask("reset", {"episode_id": "one"})
        assert [await socket.step() for _ in range(3)] == [1, 2, 3]
        if reached_redis:
            faulty.redis.hold_answer("commit")
        else:
            faulty.redis.hold_calls("commit")
        await socket.send("step", {"message": "abc"})
        await until(lambda: faulty.redis.held, "the commit")
        await asyncio.to_thread(faulty.worker.kill)
        with pytest.raises(ConnectionClosed):
            await socket.receive()
    async with Socket(faulty.other, session_id) as socket:
        assert await socket.stands() == ("one", stands)
        assert await socket.step() == stands + 1


async def test_a_bare_http_client_in_mid_step_finds_the_step_counted_once_or_not_at_all(
    pool: Pool, session_id: str
) -> None:
    first, second = pool.workers
    acknowledged = 0
    killed = asyncio.Event()

    async def hammer() -> None:
        nonlocal acknowledged
        async with http(first) as client:
            await client.post(f"/sessions/{session_id}/reset", json={"episode_id": "one"})
            while True:
                answer = await client.post(f"/sessions/{session_id}/step", json={"action": {"message": "abc"}})
                assert answer.json()["metadata"]["step"] == acknowledged + 1
                acknowledged += 1
                if acknowledged == 20:
                    killed.set()

    hammering = asyncio.create_task(hammer())
    await killed.wait()
    await asyncio.to_thread(first.kill)
    with pytest.raises(Exception, match=r".*") as stopped:
        await hammering
    assert type(stopped.value).__module__.startswith("httpx"), stopped.value
    async with http(second) as client:
        state = (await client.get(f"/sessions/{session_id}/state")).json()
    assert state["episode_id"] == "one"
    assert state["step_count"] in {acknowledged, acknowledged + 1}
