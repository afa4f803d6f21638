"""A Redis Cluster that changes under load: slots move to other masters, and masters fail over to their replicas."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.store.keys import places_key
from tests.redis_replicas import join, node_id, replicated_cluster, wait_for
from tests.redis_servers import RedisServer, cluster_node
from tests.survival.load import CountingBalancer, Load
from tests.survival.workers import Worker, http, workers

pytestmark = pytest.mark.anyio
CLIENTS = 8
SLOTS = 16384


@contextmanager
def two_workers(nodes: list[RedisServer], replicas: int = 0) -> Iterator[list[Worker]]:
    addresses = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    settings = {"METAGAME_REDIS_TIMEOUT_S": "2.5", "METAGAME_REDIS_WAIT_REPLICAS": str(replicas)}
    with workers(2, METAGAME_REDIS_URL=f"redis+cluster://{addresses}", **settings) as two:
        yield two


class Resharding:
    """Slots with keys in them, moved from the masters that have them to another node."""

    def __init__(self, masters: list[RedisServer], target: RedisServer) -> None:
        self._masters, self._target = masters, target
        self.moved: list[int] = []

    def move_all(self) -> None:
        """Every slot that holds a key now, one after the other, each key by itself."""
        for master in self._masters:
            for slot in _used_slots(master):
                self.move(master, slot)

    def move(self, master: RedisServer, slot: int) -> None:
        with self.began(master, slot) as (source, _):
            for key in source.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
                source.execute_command("MIGRATE", "127.0.0.1", self._target.port, key, 0, 5000)
        self.moved.append(slot)

    @contextmanager
    def began(self, master: RedisServer, slot: int) -> Iterator[tuple[Any, Any]]:
        """The slot on its way; afterwards the target has it."""
        with master.client() as source, self._target.client() as target:
            name = node_id(target)
            target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", node_id(source))
            source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", name)
            yield source, target
        for node in (self._target, *self._masters):
            with node.client() as client:
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", name)


def _used_slots(node: RedisServer) -> list[int]:
    """The slots of the keys that a node has."""
    with node.client() as client:
        return sorted({client.execute_command("CLUSTER KEYSLOT", key) for key in client.scan_iter(count=1000)})


def _slot(node: RedisServer, key: str) -> int:
    with node.client() as client:
        return int(client.execute_command("CLUSTER KEYSLOT", key))


async def test_resharding_of_every_live_session_to_a_new_node_is_not_seen(
    cluster_at: list[RedisServer], tmp_path: Path
) -> None:
    with cluster_node(tmp_path) as added:
        await asyncio.to_thread(join, added, cluster_at)
        with two_workers(cluster_at) as two:
            balancer = CountingBalancer([worker.port for worker in two])
            async with balancer.listening() as url, Load(url, clients=CLIENTS) as load:
                there = Resharding(cluster_at, added)
                await asyncio.to_thread(there.move_all)
                assert len(there.moved) >= CLIENTS  # the pool's places among them
                await load.goes_on()
                for home in cluster_at:
                    back = Resharding([added, *(node for node in cluster_at if node is not home)], home)
                    for slot in [one for one in there.moved if _home(one, cluster_at) is home]:
                        await asyncio.to_thread(back.move, added, slot)
                await load.goes_on()
                await load.finish()
                assert balancer.connections == CLIENTS, "somebody had to come again"
            assert not await asyncio.to_thread(_used_slots, added)
    with cluster_at[0].client() as client:
        gone = [name for name in _names(client) if name not in {_name(node) for node in cluster_at}]
    for node in cluster_at:
        with node.client() as client:
            for name in gone:
                client.execute_command("CLUSTER FORGET", name)


async def test_a_slot_that_is_long_on_its_way_is_no_outage(cluster_at: list[RedisServer]) -> None:
    """Its keys have moved, and it stays so while clients step on: only asking finds their sessions."""
    with two_workers(cluster_at) as two:
        balancer = CountingBalancer([worker.port for worker in two])
        async with balancer.listening() as url, Load(url, clients=CLIENTS) as load:
            places = _slot(cluster_at[0], places_key("metagame"))
            used = {node.port: [slot for slot in _used_slots(node) if slot != places] for node in cluster_at}
            source, target, third = sorted(cluster_at, key=lambda node: -len(used[node.port]))
            slots = used[source.port]
            assert slots
            moving, back = Resharding([source, third], target), Resharding([target, third], source)
            for slot in slots:
                with moving.began(source, slot) as (old, new):
                    for key in old.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
                        old.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
                    before = _asked(new)
                    await load.goes_on()
                    assert _asked(new) > before
                await asyncio.to_thread(back.move, target, slot)
            await load.finish()
            assert balancer.connections == CLIENTS, "somebody had to come again"


def _asked(client: Any) -> int:
    return int(client.info("commandstats").get("cmdstat_asking", {}).get("calls", 0))


def _home(slot: int, masters: list[RedisServer]) -> RedisServer:
    return masters[next(n for n in range(len(masters)) if slot < (n + 1) * SLOTS // len(masters))]


def _name(node: RedisServer) -> str:
    with node.client() as client:
        return node_id(client)


def _names(client: Any) -> list[str]:
    seen = client.execute_command("CLUSTER NODES")
    return (
        [fields["node_id"] for fields in seen.values()]
        if isinstance(seen, dict)
        else [line.split()[0] for line in seen.decode().splitlines()]
    )


async def test_masters_that_fail_over_lose_and_repeat_nothing_that_a_replica_had_to_have(tmp_path: Path) -> None:
    with replicated_cluster(tmp_path) as pairs, two_workers([master for master, _ in pairs], replicas=1) as two:
        balancer = CountingBalancer([worker.port for worker in two])
        async with balancer.listening() as url, Load(url, clients=CLIENTS) as load:
            (_, asked_replica), (killed, killed_replica), (slept, slept_replica) = pairs
            with asked_replica.client() as client:
                client.execute_command("CLUSTER FAILOVER")
            await asyncio.to_thread(wait_for, partial(_leads, asked_replica), "the failover asked for")
            await load.goes_on()

            await asyncio.to_thread(killed.stop)
            await asyncio.to_thread(wait_for, partial(_leads, killed_replica), "the failover of a dead master")
            await asyncio.to_thread(killed.start)  # it comes back as the replica that is waited for
            await load.goes_on()

            os.kill(slept.pid, signal.SIGSTOP)
            await asyncio.to_thread(wait_for, partial(_leads, slept_replica), "the failover of a sleeping master")
            os.kill(slept.pid, signal.SIGCONT)
            await load.goes_on()
            await load.finish()
        for worker in two:
            async with http(worker) as client:
                assert (await client.get("/ready")).status_code == 200


def _leads(server: RedisServer) -> bool:
    with server.client() as client:
        return bool(client.info("replication")["role"] == "master")
