"""A store that answers once replicas have what was written: what it waits for, and what it says when they do not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.store.base import Origin, Outcome, Record, StoreUnavailable, Word
from services.store.connect import ATTEMPTS, open_client, wait_for
from services.store.keys import record_key
from services.store.redis import RedisStore
from services.store.request import Replicas
from tests.redis_replicas import follow, replicated, replicated_cluster
from tests.redis_servers import RedisServer, free_port
from tests.store.samples import ONE, TWO, draft, step, until

pytestmark = pytest.mark.anyio

TIMEOUT_S = 4.0
PATIENT_S = 30.0
KEY = record_key("metagame", "s")
Pair = tuple[RedisServer, RedisServer]


@pytest.fixture(scope="module")
def one_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with replicated(tmp_path_factory.mktemp("replicated"), "--repl-ping-replica-period", "3600") as pair:
        yield pair


@pytest.fixture
async def pair(one_pair: Pair) -> Pair:
    """A primary that knows the scripts and has no sessions, and its replica, up to date whatever was done to it."""
    primary, replica = one_pair
    await asyncio.to_thread(follow, replica, primary)
    store = store_at(primary.url, timeout_s=PATIENT_S)
    for name in ("s", "t"):
        await store.make(name, draft())
        await store.commit(name, step(1))
    await store.close()
    with primary.client() as client:
        client.flushall()
        assert client.wait(1, 20_000) == 1
        client.config_resetstat()
    return one_pair


def store_at(url: str, *, replicas: int = 1, timeout_s: float = TIMEOUT_S) -> RedisStore:
    return RedisStore(
        open_client(url, timeout_s=timeout_s),
        max_sessions=100,
        ttl_ms=60_000,
        replicas=wait_for(replicas, timeout_s=timeout_s),
    )


def calls(server: RedisServer) -> dict[str, int]:
    """How often the server carried each command out."""
    with server.client() as client:
        return {name.removeprefix("cmdstat_"): seen["calls"] for name, seen in client.info("commandstats").items()}


async def unavailable(asked: Awaitable[object]) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught:
        await asked
    return caught.value


async def settled(commit: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """The outcome of a commit, sent again until the store answers."""
    outcomes: list[Outcome] = []

    async def answered() -> bool:
        try:
            outcomes.append(await commit())
        except StoreUnavailable:
            return False
        return True

    await until(answered)
    return outcomes[0]


async def test_an_answered_step_is_on_the_replica(pair: Pair) -> None:
    primary, replica = pair
    store = store_at(primary.url, timeout_s=PATIENT_S)
    await store.make("s", draft())
    with replica.client() as client:
        for count in range(1, 31):
            assert await store.commit("s", step(count)) == Outcome(Word.COMMITTED)
            stored = client.get(KEY)
            assert isinstance(stored, bytes)
            assert stored.endswith(b"body %d" % count)
    await store.close()


async def test_a_batch_is_waited_for_once_and_without_replicas_not_at_all(pair: Pair) -> None:
    primary, _ = pair
    for replicas, waits in ((0, 0), (1, 1)):
        store = store_at(primary.url, replicas=replicas, timeout_s=PATIENT_S)
        await store.load("warm")
        with primary.client() as client:
            client.config_resetstat()
        await asyncio.gather(*[store.load(f"s{number}") for number in range(200)])
        assert (calls(primary)["getex"], calls(primary).get("wait", 0)) == (200, waits)
        await store.close()


@pytest.mark.parametrize("away", ["asleep", "gone"])
async def test_a_step_that_no_replica_has_is_not_answered_and_once_one_has_it_is_told_as_it_was(
    pair: Pair, away: str
) -> None:
    primary, replica = pair
    store = store_at(primary.url)
    await store.make("s", draft())
    with replica.client() as follower:
        if away == "gone":
            follower.replicaof("127.0.0.1", str(free_port()))
        with replica.asleep():
            failed = await unavailable(store.commit("s", step(1)))
            assert failed.unknown is True
            assert "0 of the 1 replicas" in str(failed)
            with primary.client() as client:
                stored = client.get(KEY)
            assert isinstance(stored, bytes)
            assert stored.endswith(b"body 1")
            assert "0 of the 1 replicas" in str(await unavailable(store.ping()))
        if away == "gone":
            follower.replicaof("127.0.0.1", str(primary.port))
        again = await settled(lambda: store.commit("s", step(1)))
        assert again.word is Word.REPLAYED
        stored = follower.get(KEY)
        assert isinstance(stored, bytes)
        assert stored.endswith(b"body 1")
    await store.ping()
    await store.close()


Verb = Callable[[RedisStore], Awaitable[Any]]
SHOWN: dict[str, tuple[Verb, Word | None]] = {
    "a replay": (lambda store: store.commit("s", step(1)), Word.REPLAYED),
    "a conflict": (lambda store: store.commit("s", step(1, attachment=ONE)), Word.CONFLICT),
    "a stale commit": (lambda store: store.commit("s", step(1, "other")), Word.STALE),
    "a load": (lambda store: store.load("s"), None),
    "a make replayed": (lambda store: store.make("s", draft("made")), Word.REPLAYED),
    "a make of an old session": (lambda store: store.make("s", draft("other")), Word.STALE),
    "an attaching": (lambda store: store.attach("s", TWO), None),
}


@pytest.mark.parametrize("name", SHOWN)
async def test_what_shows_an_earlier_commit_is_a_write_so_that_waiting_covers_it(pair: Pair, name: str) -> None:
    primary, replica = pair
    verb, word = SHOWN[name]
    store = store_at(primary.url, timeout_s=PATIENT_S)
    await store.make("s", draft("made", attachment=ONE if name == "a conflict" else b""))
    if name == "a conflict":
        conflicting = step(1)
        await store.commit("s", type(conflicting)(b"x" * 8 + b"y" * 12, *_rest(conflicting)))
        verb = lambda one: one.commit("s", type(conflicting)(b"x" * 8 + b"z" * 12, *_rest(step(2))))  # noqa: E731 - one of the table's kind
    else:
        await store.commit("s", step(1))
    with replica.client() as client:
        client.config_resetstat()
        shown = await verb(store)
        written = client.info("commandstats")
    assert isinstance(shown, Record) if word is None else shown.word is word
    record = await store.inspect("s")
    assert record is not None
    assert record.body == b"body 1"
    assert {"cmdstat_pexpireat", "cmdstat_set"} & written.keys(), written
    await store.close()


@pytest.mark.parametrize("name", ["a replay", "a stale commit", "a load", "a make replayed"])
async def test_a_commit_that_another_worker_did_not_wait_for_is_shown_only_once_a_replica_has_it(
    pair: Pair, name: str
) -> None:
    primary, replica = pair
    verb, _ = SHOWN[name]
    store, careless = store_at(primary.url), store_at(primary.url, replicas=0)
    await store.make("s", draft("made"))
    with replica.asleep():
        await careless.commit("s", step(1))
        assert (await unavailable(verb(store))).unknown is True
    await until(lambda: _shows(store))
    await careless.close()
    await store.close()


async def _shows(store: RedisStore) -> bool:
    try:
        record = await store.load("s")
    except StoreUnavailable:
        return False
    return record is not None and record.body == b"body 1"


def _rest(commit: Any) -> tuple[Any, ...]:
    return commit.expected, commit.generation, commit.body


async def test_a_script_loaded_again_is_waited_for_like_any(pair: Pair) -> None:
    primary, replica = pair
    store = store_at(primary.url, timeout_s=PATIENT_S)
    await store.make("s", draft())
    with primary.client() as client, replica.client() as follower:
        client.script_flush()
        client.config_resetstat()
        assert (await store.commit("s", step(1))).word is Word.COMMITTED
        stored = follower.get(KEY)
    assert isinstance(stored, bytes)
    assert stored.endswith(b"body 1")
    assert {name: calls(primary)[name] for name in ("evalsha", "eval", "wait")} == {"evalsha": 1, "eval": 1, "wait": 2}
    await store.close()


async def test_what_redis_refused_is_certain_whatever_replicas_say_of_the_rest(pair: Pair) -> None:
    primary, replica = pair
    store = store_at(primary.url)
    await store.make("s", draft())
    with primary.client() as client:
        client.config_set("maxmemory", "1")
        try:
            with replica.asleep():
                refused, shown = await asyncio.gather(
                    store.commit("s", step(1)), store.load("s"), return_exceptions=True
                )
        finally:
            client.config_set("maxmemory", "0")
    assert isinstance(refused, StoreUnavailable)
    assert isinstance(shown, StoreUnavailable)
    assert (refused.unknown, shown.unknown) == (False, True)
    assert (await settled(lambda: store.commit("s", step(1)))).word is Word.COMMITTED
    await store.close()


async def test_a_primary_demoted_while_it_waits_leaves_the_outcome_unknown(pair: Pair) -> None:
    primary, replica = pair
    store = store_at(primary.url, timeout_s=PATIENT_S)
    await store.make("s", draft())
    with primary.client() as client:
        with replica.asleep():
            asked = asyncio.ensure_future(store.commit("s", step(1)))
            await until(lambda: _waits(client))
            client.replicaof("127.0.0.1", str(free_port()))
            failed = await unavailable(asked)
        assert failed.unknown is True
        assert "no word of replicas: UNBLOCKED" in str(failed)
        client.replicaof("NO", "ONE")
    assert (await settled(lambda: store.commit("s", step(1)))).word is Word.REPLAYED
    await store.close()


async def _waits(client: Any) -> bool:
    return bool(client.info("clients")["blocked_clients"] == 1)


async def test_a_login_that_may_not_wait_is_told_so(pair: Pair) -> None:
    primary, _ = pair
    store = store_at(primary.url)
    with primary.client() as client:
        client.execute_command("ACL SETUSER", "default", "-wait")
        try:
            failed = await unavailable(store.make("s", draft()))
        finally:
            client.execute_command("ACL SETUSER", "default", "+wait")
    assert failed.unknown is True
    assert "WAIT" in str(failed).upper()
    assert "permissions" in str(failed)
    await store.close()


@pytest.mark.parametrize("timeout_s", [0.05, 0.5, 5.0, 60.0])
def test_replicas_have_less_time_than_an_attempt_and_an_attempt_less_than_the_deadline(timeout_s: float) -> None:
    replicas = wait_for(2, timeout_s=timeout_s)
    assert replicas is not None
    assert replicas.count == 2
    assert 0 < replicas.timeout_ms / 1000 <= 0.51 * timeout_s / ATTEMPTS
    assert wait_for(0, timeout_s=timeout_s) is None
    assert wait_for(1, timeout_s=1e-6) == Replicas(1, 1)  # 0 would be for ever


async def test_on_a_cluster_each_node_waits_for_its_own_replica(tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(12)]
    with replicated_cluster(tmp_path) as pairs:
        store = store_at("redis+cluster://" + ",".join(f"127.0.0.1:{master.port}" for master, _ in pairs))
        for name in names:
            assert (await store.make(name, draft(origin=Origin.MADE))).word is Word.MADE
            assert (await store.commit(name, step(1))).word is Word.COMMITTED  # every node knows the script
        lanes = {name: store._lanes.of(record_key("metagame", name)) for name in names}
        master, replica = pairs[1]
        with replica.asleep():
            answers = await asyncio.gather(*[store.commit(name, step(2)) for name in names], return_exceptions=True)
        for name, answer in zip(names, answers, strict=True):
            lane = lanes[name]
            assert lane is not None
            if lane.name.endswith(str(master.port)):
                assert isinstance(answer, StoreUnavailable)
                assert answer.unknown is True
            else:
                assert answer == Outcome(Word.COMMITTED)
        assert {type(answer) for answer in answers} == {StoreUnavailable, Outcome}
        await store.close()
