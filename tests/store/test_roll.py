"""What a store keeps of its workers: their last words, for whoever looks at the pool."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.store.base import SessionStore, Spoken
from services.store.connect import open_client
from services.store.keys import places_key, workers_key
from services.store.redis import RedisStore
from tests.redis_servers import RedisServer, redis_server
from tests.store.conftest import Backend
from tests.store.samples import draft, until

pytestmark = pytest.mark.anyio
WORKERS = workers_key("metagame")
BRIEF_MS = 250


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


async def words(store: SessionStore) -> dict[str, bytes]:
    return {said.worker: said.word for said in await store.roll()}


async def test_a_worker_is_known_by_its_last_word(store: SessionStore) -> None:
    assert await store.roll() == []
    await store.announce("one", b"first")
    await store.announce("two", bytes(range(256)))
    await store.announce("one", b"")
    assert await words(store) == {"one": b"", "two": bytes(range(256))}


async def test_a_word_has_an_age_and_a_new_one_begins_anew(store: SessionStore) -> None:
    async def age_ms() -> int:
        [said] = await store.roll()
        return said.age_ms

    await store.announce("one", b"x")
    assert 0 <= await age_ms() < 5_000
    await asyncio.sleep(0.1)
    assert await age_ms() >= 90
    old = await age_ms()
    await store.announce("one", b"y")
    assert await age_ms() < old


async def test_a_worker_that_departs_is_forgotten_and_no_other(store: SessionStore) -> None:
    for worker in ("one", "two"):
        await store.announce(worker, b"x")
    for _ in range(2):
        await store.depart("one")
    assert await words(store) == {"two": b"x"}


async def test_a_worker_that_is_silent_for_long_is_forgotten_while_others_speak(backend: Backend) -> None:
    store = backend.store(word_ms=BRIEF_MS)
    await store.announce("silent", b"x")

    async def forgotten() -> bool:
        await store.announce("speaks", b"y")
        return await words(store) == {"speaks": b"y"}

    await until(forgotten)


async def test_workers_of_one_pool_see_each_other(shared_backend: Backend) -> None:
    one, other = shared_backend.store(), shared_backend.store()
    await one.announce("one", b"x")
    await other.announce("other", b"y")
    assert await words(one) == await words(other) == {"one": b"x", "other": b"y"}


async def test_taken_places_are_counted(store: SessionStore) -> None:
    assert await store.count() == 0
    for name in "abc":
        await store.make(name, draft())
    assert await store.count() == 3
    await store.end("b")
    assert await store.count() == 2


async def test_workers_that_come_and_crash_pile_up_only_for_a_while(redis_at: RedisServer) -> None:
    store = RedisStore(open_client(redis_at.url, timeout_s=9), max_sessions=9, ttl_ms=60_000, word_ms=BRIEF_MS)
    with redis_at.client() as client:
        for number in range(5):
            await store.announce(f"crashed {number}", b"x")
        assert client.hlen(WORKERS) == 5

        async def alone() -> bool:
            await store.announce("lives", b"x")
            await store.announce("crashes", b"x")
            await store.depart("crashes")
            return bool(client.hlen(WORKERS) == 1)

        await until(alone)
        assert 0 < client.pttl(WORKERS) <= BRIEF_MS
    await store.close()


async def test_words_are_kept_by_a_redis_that_is_full(own_redis: RedisServer) -> None:
    store = RedisStore(open_client(own_redis.url, timeout_s=9), max_sessions=9, ttl_ms=60_000)
    with own_redis.client() as client:
        client.config_set("maxmemory", "1")
        await store.announce("one", b"first")
        await store.announce("one", b"second")
    assert await words(store) == {"one": b"second"}
    await store.close()


async def test_words_lie_where_the_places_do(cluster_at: list[RedisServer]) -> None:
    with cluster_at[0].client() as client:
        slots = {client.execute_command("CLUSTER", "KEYSLOT", key) for key in (WORKERS, places_key("metagame"))}
    assert len(slots) == 1


async def test_a_word_that_somebody_else_wrote_breaks_no_roll(redis_at: RedisServer) -> None:
    store = RedisStore(open_client(redis_at.url, timeout_s=9), max_sessions=9, ttl_ms=60_000)
    await store.announce("one", b"x")
    with redis_at.client() as client:
        client.hset(WORKERS, "strange", "?")
    assert await store.roll() == [Spoken("one", pytest.approx(0, abs=5_000), b"x")]  # type: ignore[arg-type]
    await store.announce("two", b"y")
    with redis_at.client() as client:
        assert client.hlen(WORKERS) == 2
    await store.close()
