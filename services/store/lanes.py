"""Connections to one Redis, or to each node of a cluster, behind one border.

Both kinds come from a redis-py client, which keeps what it is good at: addresses, logins,
TLS, Sentinel, the cluster's slots. A taken connection is connected and has nothing unread.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import SlotNotCoveredError


class Connection(Protocol):
    """What we use of redis-py's connections."""

    socket_timeout: float | None
    """How long the server may take for an answer."""

    async def disconnect(self) -> None:
        """Close and wait for the end; the next use connects anew."""


def transport_of(connection: Connection) -> asyncio.Transport:
    """The transport of a connected connection, to put a protocol of our own on.

    redis-py shows it nowhere; its connections have had it as `_writer` ever since they are asyncio's.
    """
    writer: asyncio.StreamWriter = connection._writer  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    transport: asyncio.Transport = writer.transport  # type: ignore[assignment]  # typeshed has a write transport
    return transport


class Lane(Protocol):
    """One server's connections; the name tells it apart from others."""

    name: str
    host: str
    asking: bool
    """Whether it is for redirected commands, which a server that a slot is moving to takes after ASKING only."""

    async def take(self) -> Connection:
        """A connected connection; raises redis-py's errors, with nothing sent."""

    async def give(self, connection: Connection) -> None:
        """Back for the next one."""


class Lanes(Protocol):
    """Which server has a key."""

    def of(self, key: str) -> Lane | None:
        """The key's lane; None while nobody knows."""

    def at(self, host: str, port: int) -> Lane | None:
        """The lane for commands redirected to this address; None where keys do not move."""

    async def learn(self) -> None:
        """Find out where keys live; raises redis-py's errors."""

    def doubt(self, lane: Lane) -> None:
        """Something says that the lane's keys are elsewhere."""

    async def close(self) -> None:
        """Close all connections."""


class SingleLane:
    """One Redis, also the one that Sentinel names: both lane and lanes."""

    name = "redis"
    host = ""
    asking = False

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._pool: Any = client.connection_pool

    def of(self, key: str) -> Lane:  # noqa: ARG002 - every key lives here
        """Every key's lane."""
        return self

    def at(self, host: str, port: int) -> None:
        """No other server."""

    async def learn(self) -> None:
        """Nothing to learn."""

    def doubt(self, lane: Lane) -> None:
        """Nothing to doubt."""

    async def take(self) -> Connection:
        """A connection of the client's pool."""
        connection: Connection = await self._pool.get_connection()
        return connection

    async def give(self, connection: Connection) -> None:
        """Back to the pool."""
        await self._pool.release(connection)

    async def close(self) -> None:
        """Close the client and its pool, and what asks the sentinels."""
        await self._client.aclose(close_connection_pool=True)
        for sentinel in getattr(getattr(self._pool, "sentinel_manager", None), "sentinels", ()):
            await sentinel.aclose(close_connection_pool=True)


class NodeLane:
    """One node of a cluster."""

    def __init__(self, node: ClusterNode, *, asking: bool = False) -> None:
        self.name = f"{node.name} asking" if asking else str(node.name)
        self.host = str(node.host)
        self.asking = asking
        self.node: Any = node

    async def take(self) -> Connection:
        """A free connection of the node, looked at for what was left or closed meanwhile."""
        connection = self.node.acquire_connection()
        try:
            unread = getattr(connection, "can_read", None) or connection.can_read_destructive  # redis-py 8, before
            if connection.is_connected and await unread():
                await connection.disconnect()
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            self.node.release(connection)
            raise
        taken: Connection = connection
        return taken

    async def give(self, connection: Connection) -> None:
        """Back to the node."""
        self.node.release(connection)


class ClusterLanes:
    """The nodes of a cluster, by the slot of the key."""

    def __init__(self, client: RedisCluster) -> None:
        self._client: Any = client
        self._lanes: dict[str, NodeLane] = {}
        self._doubted: set[str] = set()
        self._known = False

    def of(self, key: str) -> Lane | None:
        """The lane of the key's primary; None while it is unknown or in doubt."""
        if not self._known:
            return None
        try:
            node = self._client.get_node_from_key(key)
        except SlotNotCoveredError:
            return None
        if node.name in self._doubted:
            return None
        lane = self._lanes.get(node.name)
        if lane is None or lane.node is not node:
            lane = self._lanes[node.name] = NodeLane(node)
        return lane

    def at(self, host: str, port: int) -> Lane:
        """The asking lane of a node, also of one that has no slot yet and so is in no map of them."""
        nodes = self._client.nodes_manager
        node = nodes.get_node(host, port)
        if node is None:
            node = ClusterNode(host, port, "primary", **nodes.connection_kwargs)
            nodes.set_nodes(nodes.nodes_cache, {node.name: node})
        name = f"{node.name} asking"
        lane = self._lanes.get(name)
        if lane is None or lane.node is not node:
            lane = self._lanes[name] = NodeLane(node, asking=True)
        return lane

    async def learn(self) -> None:
        """Read the slots, from whichever node answers."""
        doubted, self._doubted = self._doubted, set()
        try:
            if self._known:
                await self._client.nodes_manager.initialize()
            else:
                await self._client.initialize()
                self._known = True
        except BaseException:
            self._doubted |= doubted
            raise

    def doubt(self, lane: Lane) -> None:
        """Learn again before the next command to this node; the others go on."""
        self._doubted.add(lane.name)

    async def close(self) -> None:
        """Close the connections to all nodes."""
        await self._client.aclose()


def lanes_of(client: Redis | RedisCluster) -> Lanes:
    """The lanes of either kind of client."""
    return ClusterLanes(client) if isinstance(client, RedisCluster) else SingleLane(client)
