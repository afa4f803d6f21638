"""Unmodified OpenEnv clients from PyPI, while workers are killed and replaced under them."""

from __future__ import annotations

import asyncio
import signal
from typing import Any
from uuid import uuid4

import pytest

from tests.survival.conftest import Faulty, Pool
from tests.survival.load import CountingBalancer
from tests.survival.stock import StockClients
from tests.survival.workers import running, until

pytestmark = pytest.mark.anyio
NAMINGS = ("by path", "by header")


async def make(stock: StockClients, naming: str, url: str) -> str:
    """A client that names its session in this way; the client's name, new for every test."""
    name = uuid4().hex
    arguments: dict[str, Any] = (
        {"base_url": f"{url}/sessions/{name}"}
        if naming == "by path"
        else {"base_url": url, "headers": {"X-Session-ID": name}}
    )
    await stock.call("make", name=name, **arguments)
    return name


@pytest.mark.parametrize("naming", NAMINGS)
async def test_an_env_client_goes_on_at_the_next_step_after_a_kill_and_a_rolling_restart(
    pool: Pool, stock: StockClients, naming: str
) -> None:
    balancer = CountingBalancer([worker.port for worker in pool.workers])
    async with balancer.listening() as url:
        name = await make(stock, naming, url)
        await stock.call("reset", name=name, episode_id=name)
        assert await stock.call("step", name=name) == [1, 0.3]
        for number, (event, worker) in enumerate(
            [(event, worker) for event in (signal.SIGKILL, signal.SIGTERM) for worker in pool.workers], 2
        ):
            worker.send(event)
            await worker.exit_code()
            await running(worker)
            assert await stock.call("step", name=name) == [number, 0.3]
            assert await stock.call("state", name=name) == [name, number]
        assert balancer.connections > 2
        await stock.call("close", name=name)


@pytest.mark.parametrize("reached_redis", [False, True], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("naming", NAMINGS)
async def test_an_env_client_killed_in_mid_step_raises_and_then_stands_at_that_step_or_the_one_before(
    faulty: Faulty, stock: StockClients, naming: str, reached_redis: bool
) -> None:
    balancer = CountingBalancer([faulty.worker.port, faulty.other.port])
    async with balancer.listening() as url:
        name = await make(stock, naming, url)
        await stock.call("reset", name=name, episode_id=name)
        assert await stock.call("step", name=name) == [1, 0.3]
        if reached_redis:
            faulty.redis.hold_answer("commit")
        else:
            faulty.redis.hold_calls("commit")
        stepping = asyncio.create_task(stock.raises("step", name=name))
        await until(lambda: faulty.redis.held, "the commit")
        await asyncio.to_thread(faulty.worker.kill)
        assert (await stepping).startswith("ConnectionClosed")
        counted = 2 if reached_redis else 1
        assert await stock.call("state", name=name) == [name, counted]
        assert await stock.call("step", name=name) == [counted + 1, 0.3]
        await stock.call("close", name=name)


async def test_an_anonymous_env_client_is_told_to_reset_and_given_no_other_episode(
    pool: Pool, stock: StockClients
) -> None:
    worker = pool.workers[0]
    name = uuid4().hex
    await stock.call("make", name=name, base_url=worker.url)
    await stock.call("reset", name=name, episode_id="lost")
    assert await stock.call("step", name=name) == [1, 0.3]
    await asyncio.to_thread(worker.kill)
    await running(worker)
    refused = await stock.raises("step", name=name)
    assert "(code: SESSION_ERROR)" in refused
    assert "reset" in refused.lower()
    assert await stock.call("state", name=name) == [None, 0]
    await stock.call("reset", name=name, episode_id="another")
    assert await stock.call("step", name=name) == [1, 0.3]
    await stock.call("close", name=name)


async def test_http_clients_of_openenv_0_1_play_independent_episodes_on_two_workers(
    pool: Pool, stock_http: StockClients
) -> None:
    balancer = CountingBalancer([worker.port for worker in pool.workers])
    clients, steps = 8, 12
    async with balancer.listening() as url:
        played = await stock_http.call("episodes", base_url=url, clients=clients, steps=steps)
        assert balancer.connections == clients * (2 + 2 * steps)
    for number, one in enumerate(played):
        lengths = range(number, number + steps)
        assert one["transcript"] == [[step, length / 10, length] for step, length in enumerate(lengths, 1)]
    episodes = [one["episodes"] for one in played]
    assert all(first == last for first, last in episodes)
    assert len({first for first, _ in episodes}) == clients
