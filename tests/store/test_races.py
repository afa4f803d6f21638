"""Makers, enders and sweepers of the same few ids on several stores at once."""

from __future__ import annotations

import asyncio
import random

import pytest

from services.store.base import Draft, Origin, Word
from services.store.redis import RedisStore
from tests.store.conftest import Backend
from tests.store.samples import generation, until

pytestmark = pytest.mark.anyio

NAMES = [f"s{number}" for number in range(6)]
MAX_SESSIONS = 3


async def churn(store: RedisStore, chance: random.Random, worker: int) -> None:
    for turn in range(60):
        name = chance.choice(NAMES)
        match chance.choice(["make", "make", "end", "sweep", "half"]):
            case "make":
                drawn = generation(0, worker * 1000 + turn)
                outcome = await store.make(name, Draft(Origin.NAMED, drawn, b"body"))
                assert outcome.word in {Word.MADE, Word.STALE, Word.FULL}
            case "end":
                await store.end(name)
            case "sweep":
                await store.sweep()
            case _:  # what a worker leaves that dies inside an end or a make
                await chance.choice([store._places.mark, store._places.reserve])(name)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_the_order_places_and_records_agree_in_the_end(shared_backend: Backend, seed: int) -> None:
    stores = [shared_backend.redis_store(max_sessions=MAX_SESSIONS, reserved_ms=400) for _ in range(4)]
    chance = random.Random(seed)
    await asyncio.gather(
        *[churn(store, random.Random(chance.random()), worker) for worker, store in enumerate(stores * 2)]
    )

    async def agree() -> bool:
        await stores[0].sweep()
        placed = {name for name, _ in await stores[0]._places.page("", "", 100)}
        return placed == {name for name in NAMES if await stores[0].inspect(name) is not None}

    await until(agree)
    assert len((await stores[0].page(None, 100)).sessions) <= MAX_SESSIONS
