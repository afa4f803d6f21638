"""Many clients over several workers while the store loses requests and answers: each step once."""

import asyncio
import random
from typing import Any

import pytest

from metagame.errors import AnswerForgotten, MetaGameError, Unavailable
from metagame.games import Observation
from metagame.games.echo import EchoGame
from services.engine import Engine
from services.store.memory import MemoryStore
from tests.engine.asking import Socket, reset, stands, step
from tests.engine.scripted import LOST_AFTER, Fault, ScriptedStore

pytestmark = pytest.mark.anyio

CLIENTS = 5
STEPS = 20


class StormyStore(ScriptedStore):
    """Loses one call in five, before or after it is carried out, and lets others go first."""

    def __init__(self, seed: int) -> None:
        super().__init__(MemoryStore(max_sessions=100, ttl_ms=60_000))
        self._chance = random.Random(seed)
        self.calm = True

    async def _play(self, verb: str, carry_out: Any, *args: object) -> Any:
        if self.calm:
            return await carry_out(*args)
        await asyncio.sleep(0)
        luck = self._chance.random()
        if luck < 0.1:
            raise Fault(unknown=self._chance.random() < 0.5).error()
        answer = await carry_out(*args)
        if luck < 0.2:
            raise LOST_AFTER.error()
        return answer


async def persist(worker: Engine, number: int, level: asyncio.Barrier) -> list[int]:
    """Steps, each sent again with its id until its outcome is known; the step numbers answered.

    Clients wait for each other now and then: a request is known for the next seven.
    """
    numbers = []
    for turn in range(STEPS):
        if turn % 3 == 0:
            await level.wait()
        asked = step(f"{number}", f"{number}/{turn}")
        while True:
            try:
                seen: Observation = await worker.step("s", asked)
            except AnswerForgotten as known:
                numbers.append(known.fields["step"])
            except Unavailable as away:
                if not away.retryable:
                    raise
                continue
            else:
                numbers.append(seen.metadata["step"])
            break
    return numbers


@pytest.mark.parametrize("seed", range(6))
async def test_every_step_of_every_client_is_committed_exactly_once(seed: int) -> None:
    store = StormyStore(seed)
    workers = [Engine(EchoGame(), store, max_sessions=100, timeout_s=0.3) for _ in range(3)]
    await workers[0].reset("s", reset())
    store.calm = False
    level = asyncio.Barrier(2)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(persist(workers[one], one, level)) for one in range(2)]
    store.calm = True
    numbers = [number for task in tasks for number in task.result()]
    assert sorted(numbers) == list(range(1, 2 * STEPS + 1))
    assert await stands(workers[0]) == ("e", 2 * STEPS)


@pytest.mark.parametrize("seed", range(6))
async def test_without_ids_a_step_counts_once_or_was_raised_and_counts_once_at_most(seed: int) -> None:
    store = StormyStore(seed)
    workers = [Engine(EchoGame(), store, max_sessions=100, timeout_s=0.05) for _ in range(3)]
    await workers[0].reset("s", reset())
    store.calm = False
    answered: list[int] = []
    raised = 0

    async def hurry(worker: Engine) -> None:
        nonlocal raised
        for _ in range(STEPS):
            try:
                answered.append((await worker.step("s", step())).metadata["step"])
            except MetaGameError:
                raised += 1

    async with asyncio.TaskGroup() as group:
        for one in range(CLIENTS):
            group.create_task(hurry(workers[one % 3]))
    store.calm = True
    assert len(set(answered)) == len(answered)
    assert len(answered) <= (await stands(workers[0]))[1] <= len(answered) + raised


@pytest.mark.parametrize("seed", range(6))
async def test_a_session_that_is_taken_over_again_and_again_loses_no_answered_step(seed: int) -> None:
    store = StormyStore(seed)
    workers = [Engine(EchoGame(), store, max_sessions=100, timeout_s=0.3) for _ in range(3)]
    await workers[0].reset("s", reset())
    store.calm = False
    answered: list[int] = []

    async def reconnect(worker: Engine) -> None:
        while len(answered) < 3 * STEPS:
            try:
                socket = await Socket(worker).open()
                for _ in range(4):
                    before = (await socket.state())[1]
                    after = (await socket.step()).metadata["step"]
                    assert after > before
                    answered.append(after)
            except MetaGameError:
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(reconnect(worker))
    store.calm = True
    assert len(set(answered)) == len(answered)
    assert max(answered) <= (await stands(workers[0]))[1]
