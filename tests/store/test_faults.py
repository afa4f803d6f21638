"""The Redis store when Redis fails, restarts, sleeps, refuses or loses an answer; and when a worker dies half way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from services.store import scripts
from services.store.base import LEASE_MS, Origin, Outcome, StoreFull, StoreUnavailable, UnreadableRecord, Word
from services.store.batch import MAX_COMMANDS
from services.store.connect import open_client
from services.store.keys import places_key, record_key
from services.store.redis import RedisStore
from tests.redis_servers import RedisServer, free_port, proxied, redis_cluster, redis_server
from tests.store.conftest import Backend
from tests.store.samples import ONE, TWO, draft, step, until

pytestmark = pytest.mark.anyio

PLACES = places_key("metagame")


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis to stop, restart and break, which keeps every acknowledged write."""
    with redis_server(tmp_path, durable=True) as server:
        yield server


def store_at(url: str, *, timeout_s: float = 9, **settings: int) -> RedisStore:
    values: dict[str, Any] = {"max_sessions": 100, "ttl_ms": 60_000} | settings
    return RedisStore(open_client(url, timeout_s=timeout_s), **values)


def scripts_run(client: Redis) -> tuple[int, int]:
    """Calls of EVALSHA and of EVAL so far."""
    stats = client.info("commandstats")
    return stats.get("cmdstat_evalsha", {}).get("calls", 0), stats.get("cmdstat_eval", {}).get("calls", 0)


async def test_flushed_scripts_are_loaded_again_and_only_for_what_was_refused(redis_at: RedisServer) -> None:
    store = store_at(redis_at.url)
    for number in range(10):
        await store.make(f"s{number}", draft())
    with redis_at.client() as client:
        client.script_flush()
        await store.renew([("s0", ONE)])  # one of the two scripts below is known again
        client.config_resetstat()
        outcomes = await asyncio.gather(
            *[store.commit(f"s{number}", step(1)) for number in range(10)],
            *[store.renew([(f"s{number}", ONE)]) for number in range(10)],
        )
        assert outcomes == [Outcome(Word.COMMITTED)] * 10 + [[Word.SUPERSEDED]] * 10
        assert scripts_run(client) == (20, 10)
    await store.close()


async def test_one_tick_is_one_write(redis_at: RedisServer) -> None:
    store = store_at(redis_at.url)
    await store.ping()
    with redis_at.client() as client:
        before = client.info("stats")["total_reads_processed"]
        await asyncio.gather(*[store.load(f"s{number}") for number in range(200)])
        assert client.info("stats")["total_reads_processed"] - before <= 3
    await store.close()


async def test_more_than_a_batch_at_once_is_answered_in_full(redis_at: RedisServer) -> None:
    store = store_at(redis_at.url)
    assert await asyncio.gather(*[store.load(f"s{number}") for number in range(5000)]) == [None] * 5000
    await store.close()


async def test_a_restarted_redis_goes_on_with_what_was_committed(own_redis: RedisServer) -> None:
    store = store_at(own_redis.url)
    await store.make("s", draft())
    await store.commit("s", step(1))
    own_redis.restart()
    assert (await store.commit("s", step(1))).word is Word.REPLAYED
    assert (await store.commit("s", step(2))).word is Word.COMMITTED
    await store.close()


async def test_where_nobody_listens_nothing_was_done() -> None:
    store = store_at(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable) as caught:
        await store.commit("s", step(1))
    assert caught.value.unknown is False
    await store.close()


async def test_a_stopped_redis_is_certainly_away_and_back_once_started(own_redis: RedisServer) -> None:
    store = store_at(own_redis.url)
    await store.make("s", draft())
    own_redis.stop()
    for _ in range(3):
        with pytest.raises(StoreUnavailable) as caught:
            await store.commit("s", step(1))
        assert caught.value.unknown is False
    own_redis.start()
    outcomes: list[Outcome] = []

    async def committed() -> bool:
        try:
            outcomes.append(await store.commit("s", step(1)))
        except StoreUnavailable as away:  # it is tried again after a pause
            doubts.append(away.unknown)
            return False
        return True

    doubts: list[bool] = []
    await until(committed)
    assert (outcomes, any(doubts)) == ([Outcome(Word.COMMITTED)], False)
    await store.close()


async def test_what_waits_behind_a_sleeping_redis_fails_with_the_first_batch(own_redis: RedisServer) -> None:
    store = store_at(own_redis.url, timeout_s=1.5)
    await store.make("s", draft())
    with own_redis.asleep():
        began = asyncio.get_running_loop().time()
        waiting = [store.load("s") for _ in range(20 * MAX_COMMANDS)]
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert asyncio.get_running_loop().time() - began < 10 * 0.5  # one attempt, not a batch after the other
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    assert {answer.unknown for answer in answers if isinstance(answer, StoreUnavailable)} == {True, False}
    await until(lambda: _answers(store))
    await store.close()


async def _answers(store: RedisStore) -> bool:
    try:
        return await store.load("s") is not None
    except StoreUnavailable:
        return False


async def test_a_redis_out_of_memory_still_renews_detaches_and_ends(redis_at: RedisServer) -> None:
    store = store_at(redis_at.url, ttl_ms=60_000, max_sessions=2)
    await store.make("s", draft(attachment=ONE))
    await store.make("t", draft(attachment=ONE))
    with redis_at.client() as client:
        client.pexpire(record_key("metagame", "s"), 30_000)
        before = await store.inspect("s")
        client.config_set("maxmemory", "1")
        try:
            assert await store.renew([("s", ONE)]) == [Word.RENEWED]
            renewed = await store.inspect("s")
            assert before is not None
            assert renewed is not None
            assert renewed.lease_until_ms >= before.lease_until_ms
            assert renewed.expires_in_ms is not None
            assert renewed.expires_in_ms > 30_000
            with pytest.raises(StoreUnavailable):
                await store.commit("s", step(1))
            await store.detach("s", ONE)
            detached = await store.inspect("s")
            assert detached is not None
            assert (detached.attachment, detached.generation) == (b"", before.generation)
            assert await store.end("t", ONE)
            assert await store.end("s")
            assert client.zcard(PLACES) == 0
        finally:
            client.config_set("maxmemory", "0")
    assert (await store.make("s", draft())).word is Word.MADE
    await store.close()


async def test_a_sleeping_redis_leaves_the_outcome_unknown_within_the_timeout(own_redis: RedisServer) -> None:
    store = store_at(own_redis.url, timeout_s=0.6)
    await store.make("s", draft())
    with own_redis.asleep():
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(
                store.commit("s", step(1)), store.load("s"), store.load("t"), return_exceptions=True
            )
    for outcome in outcomes:
        assert isinstance(outcome, StoreUnavailable)
        assert outcome.unknown is True

    async def settled() -> bool:
        try:
            return (await store.commit("s", step(1))).word in {Word.COMMITTED, Word.REPLAYED}
        except StoreUnavailable:
            return False

    await until(settled)
    assert (await store.commit("s", step(1))).word is Word.REPLAYED
    await store.close()


async def test_a_commit_whose_answer_was_cut_off_is_replayed_when_sent_again(redis_at: RedisServer) -> None:
    async with proxied(redis_at.port) as proxy:
        store = store_at(f"redis://127.0.0.1:{proxy.port}")
        await store.make("s", draft())
        await store.commit("s", step(1))
        proxy.cut()
        with pytest.raises(StoreUnavailable) as caught:
            await store.commit("s", step(2))
        assert (caught.value.unknown, proxy.cuts) == (True, 1)
        again = await store.commit("s", step(2))
        assert again.word is Word.REPLAYED
        assert again.record is not None
        assert again.record.body == b"body 2"
        await store.close()


@pytest.mark.parametrize(("request_id", "word"), [("", Word.MADE), ("reset", Word.REPLAYED)])
@pytest.mark.parametrize("cut_after", [0, 1, 2])
async def test_a_make_cut_off_anywhere_is_done_when_sent_again(
    redis_at: RedisServer, request_id: str, word: Word, cut_after: int
) -> None:
    async with proxied(redis_at.port) as proxy:
        store = store_at(f"redis://127.0.0.1:{proxy.port}")
        await store.make("warm", draft())
        proxy.cut(after=cut_after)
        with pytest.raises(StoreUnavailable) as caught:
            await store.make("s", draft(request_id))
        assert caught.value.unknown is True
        again = await store.make("s", draft(request_id))
        assert again.word is (Word.MADE if cut_after == 0 else word)
        assert {name for name, _ in (await store.page(None, 10)).sessions} == {"warm", "s"}
        await store.close()


async def test_a_redis_out_of_memory_refuses_a_commit_whole(own_redis: RedisServer) -> None:
    store = store_at(own_redis.url)
    await store.make("s", draft())
    with own_redis.client() as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(StoreFull, match="maxmemory") as caught:
            await store.commit("s", step(1))
        assert caught.value.unknown is False
        assert (await store.load("s")) is not None
        client.config_set("maxmemory", "0")
    assert await store.commit("s", step(1)) == Outcome(Word.COMMITTED)
    await store.close()


async def test_a_replica_refuses_with_certainty(own_redis: RedisServer) -> None:
    store = store_at(own_redis.url)
    await store.make("s", draft())
    with own_redis.client() as client:
        client.replicaof("127.0.0.1", str(free_port()))
        with pytest.raises(StoreUnavailable) as caught:
            await store.commit("s", step(1))
        assert caught.value.unknown is False
        client.replicaof("NO", "ONE")
    assert await store.commit("s", step(1)) == Outcome(Word.COMMITTED)
    await store.close()


@pytest.mark.parametrize("kind", ["a replica", "a primary without the replicas it must have"])
async def test_a_redis_that_takes_no_writes_is_not_ready(own_redis: RedisServer, kind: str) -> None:
    store = store_at(own_redis.url)
    await store.ping()
    with own_redis.client() as client:
        if kind == "a replica":
            client.replicaof("127.0.0.1", str(free_port()))
        else:
            client.config_set("min-replicas-to-write", "1")
        for _ in range(3):
            with pytest.raises(StoreUnavailable) as caught:
                await store.ping()
            assert caught.value.unknown is False
            assert "replica" in str(caught.value)
        client.config_set("min-replicas-to-write", "0")
        client.replicaof("NO", "ONE")
    await until(lambda: _pings(store))
    await store.close()


async def _pings(store: RedisStore) -> bool:
    try:
        await store.ping()
    except StoreUnavailable:
        return False
    return True


async def test_a_wrong_password_is_a_certain_refusal_that_shows_no_password(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        with server.client() as client:
            client.config_set("requirepass", "right")
        store = store_at(f"redis://:wr0ng-secret@127.0.0.1:{server.port}")
        with pytest.raises(StoreUnavailable) as caught:
            await store.load("s")
        assert caught.value.unknown is False
        assert "wr0ng-secret" not in str(caught.value)
        await store.close()


async def test_beyond_the_bound_a_command_is_refused_at_once(redis_at: RedisServer) -> None:
    store = store_at(redis_at.url)
    store._batcher._max_waiting = 10
    outcomes = await asyncio.gather(*[store.load("s") for _ in range(15)], return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, StoreUnavailable)]
    assert [outcome.unknown for outcome in refused] == [False] * 5
    assert await store.load("s") is None
    await store.close()


@pytest.mark.parametrize("layout", [b"0", b"2"])
async def test_a_record_of_another_layout_is_refused_and_left_as_it_is(redis_at: RedisServer, layout: bytes) -> None:
    store = store_at(redis_at.url, max_sessions=1)
    await store.make("s", draft(attachment=ONE))
    key = record_key("metagame", "s")
    with redis_at.client() as client:
        client.setrange(key, 0, layout)
        before = client.get(key)
        for verb in (
            store.load("s"),
            store.inspect("s"),
            store.make("s", draft()),
            store.commit("s", step(1)),
            store.attach("s", TWO),
            store.detach("s", ONE),
            store.end("s"),
            store.end("s", ONE),
        ):
            with pytest.raises(UnreadableRecord):
                await verb
        assert await store.renew([("s", ONE)]) == [None]
        assert (await store.page(None, 10)).sessions == [("s", None)]
        client.zadd(PLACES, {"s": 1})
        assert await store.make("t", draft()) == Outcome(Word.FULL, active=1)
        assert client.get(key) == before
    await store.close()


async def test_an_unreadable_or_refused_renewal_and_a_full_queue_cost_the_others_nothing(redis_at: RedisServer) -> None:
    store = store_at(redis_at.url)
    for name in ("newer", "broken", "s", "t"):
        await store.make(name, draft(attachment=ONE))
    with redis_at.client() as client:
        client.setrange(record_key("metagame", "newer"), 0, b"2")
        client.delete(record_key("metagame", "broken"))
        client.rpush(record_key("metagame", "broken"), "a list")
        words = await store.renew([(name, ONE) for name in ("newer", "s", "broken", "gone", "t")])
        assert words == [None, Word.RENEWED, None, Word.GONE, Word.RENEWED]
        store._batcher._max_waiting = 2
        assert await store.renew([(name, ONE) for name in ("s", "t", "s")]) == [Word.RENEWED, Word.RENEWED, None]
        client.delete(record_key("metagame", "broken"))
    await store.close()


async def test_renewals_of_a_dead_cluster_node_cost_the_other_nodes_nothing(tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(12)]
    with redis_cluster(tmp_path) as nodes:
        store = store_at("redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes))
        for name in names:
            await store.make(name, draft(attachment=ONE))
        lanes = {name: store._lanes.of(record_key("metagame", name)) for name in names}
        nodes[2].stop()
        words = await store.renew([(name, ONE) for name in names])
        for name, word in zip(names, words, strict=True):
            lane = lanes[name]
            assert lane is not None
            assert word is (None if lane.name.endswith(str(nodes[2].port)) else Word.RENEWED)
        assert None in words
        await store.close()


async def test_a_place_whose_maker_died_before_the_record_is_freed(shared_backend: Backend) -> None:
    store = shared_backend.redis_store(max_sessions=2)
    assert await store._places.reserve("died") is None
    assert (await store.make("a", draft())).word is Word.MADE
    await until(lambda: _is_made(store, "b"))
    assert await store.make("c", draft()) == Outcome(Word.FULL, active=2)


async def test_an_end_that_died_between_any_two_writes_is_healed(shared_backend: Backend) -> None:
    store = shared_backend.redis_store(max_sessions=2)
    await store.make("marked", draft())
    await store.make("deleted", draft())
    assert await store._places.mark("marked") is not None
    assert await store._places.mark("deleted") is not None
    await store._batcher.send(scripts.end(record=record_key("metagame", "deleted"), attachment=b""))
    assert await store.sweep() == 1
    assert await store.load("marked") is not None
    assert (await store.make("next", draft())).word is Word.MADE
    assert await store.make("more", draft()) == Outcome(Word.FULL, active=2)


async def test_a_place_taken_away_while_its_record_came_is_taken_again_or_the_record_withdrawn(
    shared_backend: Backend,
) -> None:
    store = shared_backend.redis_store(max_sessions=1)
    for rival in (False, True):
        name = f"s-{rival}"
        assert await store._places.reserve(name) is None
        score = await store._places.mark(name)  # an end of the same id
        assert score is not None
        assert (await store._create(name, draft("r"), may_create="1")).word is Word.MADE
        assert await store._places.free(name, score)
        if rival:
            assert await store._places.reserve("rival") is None
            assert await store._places.reserve(name) == 1
            await store.end(name)
        else:
            assert (await store.make(name, draft("r"))).word is Word.REPLAYED
            assert [listed for listed, _ in (await store.page(None, 5)).sessions] == [name]
            await store.end(name)


@pytest.mark.parametrize("between", ["refused maker", "sweep", "maker of the same id"])
async def test_an_ended_session_s_place_is_free_at_once_whoever_looked_at_it_meanwhile(
    shared_backend: Backend, between: str
) -> None:
    store = shared_backend.redis_store(max_sessions=1, reserved_ms=60_000)
    other = shared_backend.redis_store(max_sessions=1, reserved_ms=60_000)
    await store.make("s", draft())
    score = await store._places.mark("s")  # an end, slowly
    match between:
        case "refused maker":
            assert await other.make("t", draft()) == Outcome(Word.FULL, active=1)
        case "sweep":
            assert await other.sweep() == 0
        case _:
            assert (await other.make("s", draft(draw=1))).word is Word.STALE
    key = record_key("metagame", "s")
    await store._batcher.send(scripts.end(record=key, attachment=b""))
    await store._vacate("s", key, score)
    assert await other._places.reserve("t") is None


async def test_an_end_leaves_the_place_of_a_session_made_anew(shared_backend: Backend) -> None:
    store = shared_backend.redis_store(max_sessions=1, reserved_ms=60_000)
    await store.make("s", draft())
    score = await store._places.mark("s")
    key = record_key("metagame", "s")
    await store._batcher.send(scripts.end(record=key, attachment=b""))
    assert (await store.make("s", draft(draw=1))).word is Word.MADE
    await store._vacate("s", key, score)
    assert await store.make("t", draft()) == Outcome(Word.FULL, active=1)
    assert await store.load("s") is not None


async def test_an_end_beside_refused_makers_leaves_room_for_the_next_make(shared_backend: Backend) -> None:
    store, rival, third = [shared_backend.redis_store(max_sessions=1, reserved_ms=60_000) for _ in range(3)]
    for turn in range(20):
        assert (await store.make(f"s{turn}", draft())).word is Word.MADE
        looking = [one._places.make_room() for one in (rival, third) * 3]
        held = [one.make(f"s{turn}", draft("again")) for one in (rival, third)]
        await asyncio.gather(store.end(f"s{turn}"), *looking, *held)
        await store.end(f"s{turn}")
        assert (await rival.make("next", draft())).word is Word.MADE
        assert await rival.end("next")


async def test_a_score_alone_frees_no_place(shared_backend: Backend) -> None:
    store = shared_backend.redis_store(max_sessions=1)
    await store.make("a", draft())
    await store._places.mark("a")
    assert await store.make("b", draft()) == Outcome(Word.FULL, active=1)
    assert await store.sweep() == 0
    assert await store.load("a") is not None


async def test_a_store_new_to_its_redis_ends_no_anonymous_session(shared_backend: Backend) -> None:
    maker = shared_backend.redis_store(lease_ms=100, max_sessions=1)
    await maker.make("a", draft(origin=Origin.ANONYMOUS, attachment=ONE))
    await until(lambda: _is_lapsed(maker, "a"))
    await maker._places.mark("a")
    fresh = shared_backend.redis_store(lease_ms=LEASE_MS, max_sessions=1)
    assert await fresh.sweep() == 0
    assert await fresh.make("b", draft()) == Outcome(Word.FULL, active=1)
    assert await maker.load("a") is not None
    await until(lambda: _swept(maker))
    assert await maker.load("a") is None


async def test_contact_lost_and_found_counts_anew(own_redis: RedisServer) -> None:
    store = store_at(own_redis.url, lease_ms=30)
    await store.make("a", draft(origin=Origin.ANONYMOUS, attachment=ONE))
    contact = store._contact

    async def steady() -> bool:
        await store.ping()
        return contact.steady

    await until(steady)
    own_redis.stop()
    with pytest.raises(StoreUnavailable):
        await store.sweep()
    assert not contact.steady
    own_redis.start()
    await store.close()


async def test_makers_on_several_stores_never_exceed_the_limit_together(shared_backend: Backend) -> None:
    stores = [shared_backend.redis_store(max_sessions=2) for _ in range(4)]
    for turn in range(5):
        names = [f"s{turn}-{number}" for number in range(8)]
        outcomes = await asyncio.gather(
            *[stores[number % 4].make(name, draft("r")) for number, name in enumerate(names)]
        )
        made = [name for name, outcome in zip(names, outcomes, strict=True) if outcome.word is Word.MADE]
        assert len(made) == 2
        assert all(outcome == Outcome(Word.FULL, active=2) for outcome in outcomes if outcome.word is not Word.MADE)
        await asyncio.gather(*[stores[3].end(name) for name in made])


async def test_the_places_have_a_ttl_that_keep_renews(redis_at: RedisServer) -> None:
    store = store_at(redis_at.url, ttl_ms=1000)
    await store.make("s", draft())
    with redis_at.client() as client:
        assert 61_000 < client.pttl(PLACES) <= 62_000
        client.pexpire(PLACES, 5000)
        await store.keep()
        assert 61_000 < client.pttl(PLACES) <= 62_000
        assert 0 < client.pttl(record_key("metagame", "s")) <= 1000
    await store.close()


async def _is_made(store: RedisStore, name: str) -> bool:
    return (await store.make(name, draft())).word is Word.MADE


async def _is_lapsed(store: RedisStore, name: str) -> bool:
    record = await store.inspect(name)
    return record is not None and not record.attached


async def _swept(store: RedisStore) -> bool:
    return await store.sweep() == 1
