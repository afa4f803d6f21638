"""What a store says of the servers that it lives on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.store.base import Node
from services.store.connect import open_client
from services.store.memory import MemoryStore
from services.store.redis import RedisStore
from tests.redis_replicas import replicated, watched
from tests.redis_servers import RedisServer, redis_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


def store_at(url: str, *, timeout_s: float = 9) -> RedisStore:
    return RedisStore(open_client(url, timeout_s=timeout_s), max_sessions=9, ttl_ms=60_000)


async def test_a_pool_in_memory_has_no_servers() -> None:
    assert await MemoryStore(max_sessions=9, ttl_ms=60_000).nodes() == []


async def test_a_redis_tells_how_it_is(redis_at: RedisServer) -> None:
    store = store_at(redis_at.url)
    [node] = await store.nodes()
    assert (node.name, node.role, node.up) == (f"127.0.0.1:{redis_at.port}", "primary", True)
    assert (node.max_memory_bytes, node.aof, node.fsync) == (0, False, None)
    assert node.version is not None
    assert node.version.count(".") == 2
    assert (node.used_memory_bytes or 0) > 100_000
    assert (node.clients or 0) >= 1
    assert isinstance(node.commands_per_s, int)
    with redis_at.client() as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("appendonly", "yes")
        try:
            [node] = await store.nodes()
            assert (node.max_memory_bytes, node.aof, node.fsync) == (100 * 2**20, True, "everysec")
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("appendonly", "no")
    await store.close()


async def test_a_redis_that_tells_us_little_is_up(own_redis: RedisServer) -> None:
    with own_redis.client() as client:
        client.execute_command("ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-info", "-config")
    url = f"redis://plain:secret@127.0.0.1:{own_redis.port}"
    store = store_at(url)
    assert await store.nodes() == [Node(f"127.0.0.1:{own_redis.port}", "primary", up=True)]
    await store.close()


async def test_a_redis_that_is_away_or_asleep_is_down_within_a_second_or_two(own_redis: RedisServer) -> None:
    store = store_at(own_redis.url, timeout_s=30)
    down = [Node(f"127.0.0.1:{own_redis.port}", "primary", up=False)]
    assert (await store.nodes())[0].up
    with own_redis.asleep():
        async with asyncio.timeout(5):
            assert await store.nodes() == down
    assert (await store.nodes())[0].up
    own_redis.stop()
    async with asyncio.timeout(5):
        assert await store.nodes() == down
    own_redis.start()
    assert (await store.nodes())[0].up
    await store.close()


async def test_a_primary_tells_of_its_replicas(tmp_path: Path) -> None:
    with replicated(tmp_path) as (primary, replica):
        store = store_at(primary.url)
        first, second = await store.nodes()
        assert (first.role, first.up) == ("primary", True)
        assert second == Node(f"127.0.0.1:{replica.port}", "replica", up=True)
        await store.close()


async def test_the_primary_that_sentinels_name_is_called_by_its_address(tmp_path: Path) -> None:
    with watched(tmp_path) as servers:
        store = store_at(servers.url)
        first, *replicas = await store.nodes()
        assert (first.name, first.role, first.up) == (f"127.0.0.1:{servers.primary.port}", "primary", True)
        assert [node.role for node in replicas] == ["replica"]
        await store.close()


async def test_every_node_of_a_cluster_is_asked_and_one_that_is_away_fails_no_other(
    cluster_at: list[RedisServer],
) -> None:
    url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in cluster_at)
    store = store_at(url, timeout_s=30)
    names = {f"127.0.0.1:{node.port}" for node in cluster_at}
    nodes = await store.nodes()
    assert {(node.name, node.role, node.up) for node in nodes} == {(name, "primary", True) for name in names}
    assert all(node.version and node.used_memory_bytes for node in nodes)
    with cluster_at[2].asleep():
        async with asyncio.timeout(10):
            nodes = await store.nodes()
    assert {node.name for node in nodes if not node.up} == {f"127.0.0.1:{cluster_at[2].port}"}
    assert all(node.up for node in await store.nodes())
    await store.close()


async def test_a_cluster_that_was_never_reached_is_down() -> None:
    url = "redis+cluster://127.0.0.1:1,127.0.0.1:2"
    store = store_at(url)
    async with asyncio.timeout(10):
        assert await store.nodes() == [Node(f"127.0.0.1:{port}", "primary", up=False) for port in (1, 2)]
    await store.close()
