"""How the Redis servers are, as each says of itself: for whoever looks at the pool.

Not here: what sessions ask of Redis. These questions go by redis-py's own connections, so that no line of
commands waits for them, and each node has a second for its answer, whatever the others do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import AuthenticationError, RedisClusterException, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from .base import Node

LOOK_S = 1.0
SECTIONS = ("server", "clients", "memory", "persistence", "stats", "replication")
TRIES = 2
"""A connection that the server has closed since the last look is found out by using it."""
PRIMARY, REPLICA = "primary", "replica"
_ROLES = {"master": PRIMARY, "slave": REPLICA}

Ask = Callable[..., Awaitable[Any]]


class Nodes:
    """The servers behind a client: one Redis and the replicas that it knows of, or every node of a cluster."""

    def __init__(self, client: Redis | RedisCluster) -> None:
        self._client: Any = client

    async def look(self) -> list[Node]:
        """Each server; what it did not say is None. Raises nothing of Redis'."""
        if isinstance(self._client, RedisCluster):
            return await self._look_at_cluster()
        node, info = await _look_at(self._name(), PRIMARY, self._client.execute_command)
        # By now Sentinel's client knows it too.
        return [replace(node, name=self._name()), *_replicas_of(info)]

    async def _look_at_cluster(self) -> list[Node]:
        try:
            async with asyncio.timeout(LOOK_S):
                await self._client.initialize()
        except (RedisClusterException, RedisError, OSError, TimeoutError):
            known = self._client.nodes_manager.startup_nodes.values()
            return sorted([_down(node.name, PRIMARY) for node in known], key=_in_order)
        nodes = self._client.get_nodes()
        looks = [_look_at(node.name, node.server_type or PRIMARY, node.execute_command) for node in nodes]
        return sorted([node for node, _ in await asyncio.gather(*looks)], key=_in_order)

    def _name(self) -> str:
        pool = self._client.connection_pool
        service = getattr(pool, "service_name", None)
        if service is not None:
            return ":".join(map(str, pool.master_address)) if pool.master_address else str(service)
        return f"{pool.connection_kwargs['host']}:{pool.connection_kwargs['port']}"


async def _look_at(name: str, role: str, ask: Ask) -> tuple[Node, dict[str, Any]]:
    """A server's state, and what it said."""
    try:
        async with asyncio.timeout(LOOK_S):
            info = await _said(ask, "INFO", *SECTIONS)
            told = await _said(ask, "CONFIG GET", "appendfsync") if info.get("aof_enabled") else {}
    except (RedisError, OSError, TimeoutError):
        return _down(name, role), {}
    version, aof = info.get("redis_version"), info.get("aof_enabled")
    node = Node(
        name,
        _ROLES.get(str(info.get("role")), role),
        up=True,
        version=None if version is None else str(version),
        used_memory_bytes=info.get("used_memory"),
        max_memory_bytes=info.get("maxmemory"),
        clients=info.get("connected_clients"),
        commands_per_s=info.get("instantaneous_ops_per_sec"),
        aof=None if aof is None else bool(aof),
        fsync=told.get("appendfsync"),
    )
    return node, info


async def _said(ask: Ask, *command: str) -> dict[str, Any]:
    """The answer; nothing where the server is there, but does not tell such as us."""
    for tries_left in reversed(range(TRIES)):
        try:
            answer = await ask(*command)
        except AuthenticationError:
            raise
        except RedisConnectionError:
            if not tries_left:
                raise
        except ResponseError:
            return {}
        else:
            return answer if isinstance(answer, dict) else {}
    raise AssertionError


def _replicas_of(info: dict[str, Any]) -> list[Node]:
    """The replicas that a primary has, as it sees them; they are not asked themselves."""
    told = [info.get(f"slave{number}") for number in range(int(info.get("connected_slaves") or 0))]
    return [
        Node(f"{one['ip']}:{one['port']}", REPLICA, up=one.get("state") == "online")
        for one in told
        if isinstance(one, dict) and {"ip", "port"} <= one.keys()
    ]


def _down(name: str, role: str) -> Node:
    return Node(name, role, up=False)


def _in_order(node: Node) -> tuple[str, str]:
    return (node.role, node.name)
