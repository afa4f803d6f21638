"""When a worker tells the pool of itself: at once, again and again, when it begins to leave, and not once it left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from metagame.games.echo import EchoGame
from services import upkeep as upkeep_module
from services.engine import Engine
from services.store.memory import MemoryStore
from services.surfaces.pool import PoolSurface
from services.upkeep import Upkeep
from services.vitals import Counts, Pulse, read
from tests.engine.scripted import LOST_BEFORE, REFUSED, Gate, ScriptedStore
from tests.survival.workers import until

pytestmark = pytest.mark.anyio
WORKER = "1234abcd"


class Telling:
    """A worker's upkeep on a scripted store."""

    def __init__(self) -> None:
        self.draining = False
        self.store = ScriptedStore(MemoryStore(max_sessions=10, ttl_ms=60_000))
        engine = Engine(EchoGame(), self.store, max_sessions=10, timeout_s=1.0)
        pulse = Pulse(WORKER, lambda: Counts(0, 0, 0, 0, 0.0, 0), draining=lambda: self.draining)
        self.upkeep = Upkeep(engine, session_ttl_s=3600, pulse=pulse)

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[Telling]:
        self.upkeep.start()
        try:
            yield self
        finally:
            await self.upkeep.stop()

    @property
    def told(self) -> int:
        return self.store.verbs().count("announce")

    async def workers(self) -> dict[str, bool]:
        """Who is known, and whether it leaves."""
        return {said.worker: read(said.word).draining for said in await self.store.inner.roll()}


@pytest.fixture
def telling() -> Telling:
    return Telling()


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_module, "ANNOUNCE_S", 0.02)


async def test_a_worker_tells_of_itself_as_soon_as_it_is_there(telling: Telling) -> None:
    async with telling.going_on():
        await until(lambda: telling.told, "its first word", within_s=1)
        assert await telling.workers() == {WORKER: False}


async def test_it_tells_again_and_again(telling: Telling, quickly: None) -> None:
    async with telling.going_on():
        await until(lambda: telling.told > 5, "words")


async def test_that_it_leaves_it_tells_at_once(telling: Telling) -> None:
    async with telling.going_on():
        await until(lambda: telling.told, "its first word")
        telling.draining = True
        telling.upkeep.announce_now()
        await until(lambda: telling.told == 2, "its word", within_s=1)
        assert await telling.workers() == {WORKER: True}


async def test_a_worker_that_left_is_forgotten_and_says_no_more(telling: Telling, quickly: None) -> None:
    async with telling.going_on():
        await until(lambda: telling.told > 1, "words")
    assert await telling.workers() == {}
    told = telling.told
    await asyncio.sleep(0.1)
    assert telling.told == told


async def test_it_goes_on_after_the_store_was_away(telling: Telling, quickly: None) -> None:
    telling.store.script["announce"].extend([REFUSED, LOST_BEFORE, REFUSED])
    with capture_logs() as logged:
        async with telling.going_on():
            await until(lambda: telling.told > 5, "words")
            assert await telling.workers() == {WORKER: False}
    assert [line for line in logged if line["event"] == "upkeep failed"] == []


@pytest.mark.parametrize("away", ["refuses", "sleeps"])
async def test_a_store_that_is_away_holds_up_nobody_who_leaves(telling: Telling, away: str) -> None:
    telling.store.always["depart"] = REFUSED if away == "refuses" else Gate()
    async with telling.going_on():
        await until(lambda: telling.told, "its first word")
    # It left, and is known until it is forgotten for its silence.
    assert await telling.workers() == {WORKER: False}


async def test_a_word_on_its_way_does_not_come_behind_the_departure(telling: Telling) -> None:
    telling.store.always["announce"] = gate = Gate()
    async with telling.going_on():
        await gate.reached.wait()
    gate.open()
    await asyncio.sleep(0)
    assert await telling.workers() == {}


async def test_many_who_look_at_once_share_one_look(telling: Telling) -> None:
    pulse = Pulse(WORKER, lambda: Counts(0, 0, 0, 0, 0.0, 0), draining=lambda: False)
    engine = Engine(EchoGame(), telling.store, max_sessions=10, timeout_s=1.0)
    surface = PoolSurface(engine, pulse, max_sessions=10, store_name="memory")
    telling.store.script["roll"].append(gate := Gate())
    asked = [asyncio.create_task(surface.answer()) for _ in range(20)]
    await gate.reached.wait()
    asked.pop().cancel()
    gate.open()
    answers = await asyncio.gather(*asked)
    assert [len(answer["workers"]) for answer in answers] == [1] * 19
    assert [telling.store.verbs().count(verb) for verb in ("count", "roll", "nodes")] == [1, 1, 1]
    await surface.answer()
    assert telling.store.verbs().count("roll") == 2


async def test_a_store_that_does_not_answer_keeps_nobody_waiting(telling: Telling) -> None:
    pulse = Pulse(WORKER, lambda: Counts(0, 0, 0, 0, 0.0, 0), draining=lambda: False)
    engine = Engine(EchoGame(), telling.store, max_sessions=10, timeout_s=1.0)
    surface = PoolSurface(engine, pulse, max_sessions=10, store_name="redis")
    for verb in ("count", "roll"):
        telling.store.script[verb].extend([Gate(), REFUSED])
    for _ in range(2):
        async with asyncio.timeout(5):
            answer = await surface.answer()
        assert answer["sessions"] == {"total": None, "attached": 0, "anonymous": 0, "detached": None, "max": 10}
        assert [one["worker_id"] for one in answer["workers"]] == [WORKER]
    assert (await surface.answer())["sessions"]["total"] == 0
