"""Slots that have moved or are moving: a redirected command is followed, once, to where its key is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from services.store.base import Outcome, StoreUnavailable, Word
from services.store.connect import open_client
from services.store.keys import record_key
from services.store.redis import RedisStore
from tests.redis_replicas import join, node_id
from tests.redis_servers import RedisServer, cluster_node
from tests.store.samples import ONE, draft, step

pytestmark = pytest.mark.anyio
KEY = record_key("metagame", "s")


def store_at(nodes: list[RedisServer], timeout_s: float = 9) -> RedisStore:
    url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    return RedisStore(open_client(url, timeout_s=timeout_s), max_sessions=100, ttl_ms=60_000)


class Migration:
    """One session's slot on its way from the master that has it to another node."""

    def __init__(self, source: Any, target: Any, target_port: int) -> None:
        self._source, self._target, self._port = source, target, target_port
        self.slot = source.execute_command("CLUSTER KEYSLOT", KEY)
        self._own, self._other = node_id(source), node_id(target)

    def begin(self) -> None:
        """From now on keys that the source does not have are the target's."""
        self._target.execute_command("CLUSTER SETSLOT", self.slot, "IMPORTING", self._own)
        self._source.execute_command("CLUSTER SETSLOT", self.slot, "MIGRATING", self._other)

    def move(self) -> None:
        """Bring the session's key over."""
        self._source.execute_command("MIGRATE", "127.0.0.1", self._port, KEY, 0, 5000)

    def end(self, everybody: list[RedisServer]) -> None:
        """Give the slot to the target."""
        for node in everybody:
            with node.client() as client:
                client.execute_command("CLUSTER SETSLOT", self.slot, "NODE", self._other)


@pytest.fixture(scope="module")
def empty_node(shared_cluster: list[RedisServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A member of the cluster that has no slots, as one that was just added."""
    with cluster_node(tmp_path_factory.mktemp("added")) as node:
        join(node, shared_cluster)
        yield node
        with node.client() as client:
            name = node_id(client)
        for server in shared_cluster:
            with server.client() as client:
                client.execute_command("CLUSTER FORGET", name)


def of_slot(nodes: list[RedisServer], store: RedisStore) -> tuple[RedisServer, RedisServer]:
    """The master that has the session's slot, and one that has not."""
    lane = store._lanes.of(KEY)
    assert lane is not None
    has = next(node for node in nodes if lane.name.endswith(str(node.port)))
    return has, next(node for node in nodes if node is not has)


def calls(client: Redis, *names: str) -> dict[str, int]:
    stats = client.info("commandstats")
    return {name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in names}


async def test_a_slot_that_moved_is_found_at_once_and_remembered(cluster_at: list[RedisServer]) -> None:
    store = store_at(cluster_at)
    await store.make("s", draft())
    has, wrong = of_slot(cluster_at, store)
    manager = store._lanes._client.nodes_manager  # type: ignore[attr-defined]
    with cluster_at[0].client() as client:
        slot = client.execute_command("CLUSTER KEYSLOT", KEY)
    manager.slots_cache[slot] = [manager.get_node(host="127.0.0.1", port=wrong.port)]
    assert await store.commit("s", step(1)) == Outcome(Word.COMMITTED)
    with has.client() as client:
        assert await store.commit("s", step(2)) == Outcome(Word.COMMITTED)
        asked = calls(client, "asking")
        assert await store.commit("s", step(3)) == Outcome(Word.COMMITTED)
        assert calls(client, "asking") == asked, "the map was not read again"
    assert store._batcher._waiting == 0
    await store.close()


async def test_a_cluster_named_by_the_url_of_a_single_redis_is_told_so(cluster_at: list[RedisServer]) -> None:
    urls = [f"redis://127.0.0.1:{node.port}" for node in cluster_at]
    answers: list[object] = []
    for url in urls:
        store = RedisStore(open_client(url, timeout_s=9), max_sessions=100, ttl_ms=60_000)
        answers += await asyncio.gather(store.load("s"), return_exceptions=True)
        await store.close()
    told = [answer for answer in answers if isinstance(answer, StoreUnavailable)]
    assert len(told) == len(cluster_at) - 1
    assert all("redis+cluster://" in str(answer) and answer.unknown is False for answer in told)


@pytest.mark.parametrize("to", ["a master", "a node without slots"])
async def test_a_session_is_served_through_every_moment_of_its_slot_s_migration(
    cluster_at: list[RedisServer], empty_node: RedisServer, to: str
) -> None:
    store = store_at(cluster_at)
    await store.make("s", draft())
    await store.commit("s", step(1))
    has, other = of_slot(cluster_at, store)
    to_node = other if to == "a master" else empty_node
    with has.client() as source, to_node.client() as target:
        there, back = Migration(source, target, to_node.port), Migration(target, source, has.port)
        target.script_flush()
        there.begin()
        assert await store.commit("s", step(2)) == Outcome(Word.COMMITTED)
        there.move()
        source.config_resetstat()
        target.config_resetstat()
        assert await store.commit("s", step(3)) == Outcome(Word.COMMITTED)
        assert (await store.commit("s", step(3))).word is Word.REPLAYED
        assert calls(target, "asking", "eval", "evalsha") == {"asking": 3, "eval": 1, "evalsha": 2}
        assert calls(source, "eval") == {"eval": 0}
        assert await store.renew([("s", ONE)]) == [Word.SUPERSEDED]
        await store.end("s")
        assert await store.load("s") is None
        assert (await store.make("s", draft(draw=1))).word is Word.MADE
        assert target.execute_command("CLUSTER COUNTKEYSINSLOT", there.slot) == 1
        there.end([*cluster_at, empty_node])
        assert (await store.make("s", draft(draw=1))).word is Word.MADE
        back.begin()
        back.move()
        assert (await store.commit("s", step(1))).word is Word.STALE
        back.end([*cluster_at, empty_node])
        assert await store.load("s") is not None
    assert store._batcher._waiting == 0
    await store.close()


async def test_a_redirected_command_keeps_to_the_rules_of_every_command(
    cluster_at: list[RedisServer], tmp_path: Path
) -> None:
    store = store_at(cluster_at, timeout_s=1.5)
    await store.make("s", draft())
    has, _ = of_slot(cluster_at, store)
    with ExitStack() as running:
        added = running.enter_context(cluster_node(tmp_path))
        join(added, cluster_at)
        source, target = running.enter_context(has.client()), running.enter_context(added.client())
        name = node_id(target)
        migration = Migration(source, target, added.port)
        migration.begin()
        migration.move()
        assert await store.load("s") is not None
        with added.asleep(), pytest.raises(StoreUnavailable) as slept:
            await store.commit("s", step(1))
        assert slept.value.unknown is True
        added.stop()
        with pytest.raises(StoreUnavailable) as gone:
            await store.commit("s", step(1))
        assert gone.value.unknown is False
        source.execute_command("CLUSTER SETSLOT", migration.slot, "STABLE")
        for server in cluster_at:
            with server.client() as client:
                client.execute_command("CLUSTER FORGET", name)
    assert await store.load("s") is None
    assert store._batcher._waiting == 0
    await store.close()
