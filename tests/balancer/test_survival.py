"""Workers killed, frozen, drained and rolled, and the balancer restarted, under load."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from uuid import uuid4

import httpx
import pytest

from tests.balancer.conftest import Balanced
from tests.survival.load import Load
from tests.survival.sockets import Socket
from tests.survival.stock import StockClients
from tests.survival.workers import running, until

pytestmark = pytest.mark.anyio
STEP = {"action": {"message": "abc"}}


async def test_workers_killed_one_after_the_other_are_not_seen_by_clients(balanced: Balanced) -> None:
    async with Load(balanced.url) as load:
        for worker in balanced.workers:
            await load.goes_on()
            await asyncio.to_thread(worker.kill)
            await load.goes_on()
            await running(worker)
            await balanced.all_up()
        await load.goes_on()
        await load.finish()


async def test_workers_rolled_one_after_the_other_are_not_seen_by_clients(balanced: Balanced) -> None:
    async with Load(balanced.url) as load:
        for worker in balanced.workers:
            worker.send(signal.SIGTERM)
            assert await worker.exit_code() == 0
            await load.goes_on()
            await running(worker)
            await balanced.all_up()
        await load.goes_on()
        await load.finish()


async def test_a_frozen_worker_leaves_the_rotation_and_keeps_its_sockets(balanced: Balanced, session_id: str) -> None:
    frozen, other = balanced.workers
    async with Load(balanced.url) as load:
        frozen.send(signal.SIGSTOP)
        try:
            await until(lambda: balanced.balancer.up() == {"w2"}, "the frozen worker out of rotation")
            async with Socket(balanced.balancer, session_id) as socket:
                await socket.reset()
                assert await socket.step() == 1
        finally:
            frozen.send(signal.SIGCONT)
        await balanced.all_up()
        await load.goes_on()
        await load.finish()
    assert other.alive


async def test_a_restarted_balancer_is_not_seen_by_clients(balanced: Balanced) -> None:
    async with Load(balanced.url) as load:
        await load.goes_on()
        await asyncio.to_thread(balanced.balancer.restart)
        await load.goes_on()
        await load.finish()


async def test_a_draining_worker_gets_nothing_new_and_kept_connections_cost_no_error(
    balanced: Balanced, http: httpx.AsyncClient, session_id: str
) -> None:
    leaving = balanced.workers[0]
    steps, drained = 0, False

    async def hammer(number: int) -> None:
        nonlocal steps
        path, taken = f"/sessions/{session_id}-{number}", 0
        await http.post(f"{path}/reset")
        while not drained:
            answer = await http.post(f"{path}/step", json=STEP)
            assert answer.status_code == 200, answer.text
            steps, taken = steps + 1, taken + 1
        assert (await http.get(f"{path}/state")).json()["step_count"] == taken

    hammering = [asyncio.create_task(hammer(number)) for number in range(6)]
    async with Socket(leaving) as anonymous:  # keeps the worker until its deadline
        await anonymous.reset()
        await until(lambda: steps > 50, "requests on kept connections")
        leaving.send(signal.SIGTERM)
        await until(lambda: balanced.balancer.up() == {"w2"}, "the leaving worker out of rotation")
        before = balanced.balancer.stats()["w1"]["stot"]
        reached = steps
        await until(lambda: steps > reached + 50, "requests at the other worker")
        assert balanced.balancer.stats()["w1"]["stot"] == before
        assert leaving.alive
    assert await leaving.exit_code() == 0
    drained = True
    await asyncio.gather(*hammering)


async def test_sockets_that_all_come_again_at_once_take_no_buffer_each(balanced: Balanced) -> None:
    many = 400
    async with AsyncExitStack() as stack:
        sockets = [Socket(balanced.balancer, f"{uuid4().hex}") for _ in range(many)]
        await asyncio.gather(*(stack.enter_async_context(socket) for socket in sockets))
        await asyncio.gather(*(socket.reset() for socket in sockets))
        assert balanced.balancer.peak_mib() < many / 2  # half of them with a buffer would be more
        await asyncio.gather(*(socket.send("close") for socket in sockets))


async def test_an_unmodified_openenv_client_keeps_its_episode_while_workers_are_killed_and_rolled(
    balanced: Balanced, stock: StockClients
) -> None:
    name = uuid4().hex
    await stock.call("make", name=name, base_url=f"{balanced.url}/sessions/{name}")
    await stock.call("reset", name=name, episode_id=name)
    taken = 0
    for event, worker in [(event, worker) for event in (signal.SIGKILL, signal.SIGTERM) for worker in balanced.workers]:
        stepping = asyncio.ensure_future(stock.step_and_state(name, taken))
        worker.send(event)
        episode, taken = await stepping
        assert episode == name
        await worker.exit_code()
        assert await stock.call("step", name=name) == [taken + 1, 0.3]
        taken += 1
        await running(worker)
        await balanced.all_up()
    assert await stock.call("state", name=name) == [name, taken]
    await stock.call("close", name=name)
