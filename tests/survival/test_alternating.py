"""Any worker serves any step: one session's requests on different workers, step by step."""

from __future__ import annotations

from contextlib import AsyncExitStack
from itertools import cycle, islice

import pytest

from tests.survival.conftest import Pool
from tests.survival.sockets import Socket
from tests.survival.workers import Worker, http

pytestmark = pytest.mark.anyio
STEPS = 12


async def http_alternates(several: list[Worker], session_id: str) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(http(worker)) for worker in several]
        path = f"/sessions/{session_id}"
        assert (await clients[0].post(f"{path}/reset", json={"episode_id": "one"})).status_code == 200
        for number, client in enumerate(islice(cycle(clients), STEPS), 1):
            answer = (await client.post(f"{path}/step", json={"action": {"message": "x" * number}})).json()
            assert (answer["metadata"]["step"], answer["reward"]) == (number, number / 10)
        for client in clients:
            state = (await client.get(f"{path}/state")).json()
            assert (state["episode_id"], state["step_count"]) == ("one", STEPS)


async def sockets_alternate(several: list[Worker], session_id: str) -> None:
    for number, worker in enumerate(islice(cycle(several), STEPS), 1):
        async with Socket(worker, session_id) as socket:
            if number == 1:
                await socket.ask("reset", {"episode_id": "one"})
            assert await socket.stands() == ("one", number - 1)
            assert await socket.step() == number


async def test_http_steps_on_two_workers_in_turn_count_one_by_one(pool: Pool, session_id: str) -> None:
    await http_alternates(pool.workers, session_id)


async def test_a_socket_reattached_to_the_other_worker_goes_on_at_the_next_step(pool: Pool, session_id: str) -> None:
    await sockets_alternate(pool.workers, session_id)


async def test_an_older_socket_is_told_that_another_worker_has_its_session(pool: Pool, session_id: str) -> None:
    first, second = pool.workers
    async with Socket(first, session_id) as old:
        await old.reset()
        assert await old.step() == 1
        async with Socket(second, session_id) as newest:
            assert await newest.step() == 2
            refused = await old.ask("step", {"message": "late"})
            assert (refused["code"], refused["reason"]) == ("SESSION_ERROR", "session_taken_over")
            assert await old.close_code() == 4001
            assert await newest.step() == 3
