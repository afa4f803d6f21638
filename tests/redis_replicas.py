"""Real Redis servers that follow one another: a primary with replicas, sentinels over them, cluster nodes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.redis_servers import START_S, RedisServer, cluster_node, free_port, redis_cluster, redis_server

SYNC_AT_ONCE = ("--repl-diskless-sync-delay", "0")
FENCED = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2")
"""A primary whose replica is silent for longer takes no more writes."""
SERVICE = "pool"
SENTINELS = 3
QUORUM = 2
DOWN_AFTER_MS = 1000


def wait_for(happened: Callable[[], Any], what: str, within_s: float = START_S) -> None:
    """Wait for an event that nobody announces; a server that does not answer yet has not done it."""
    deadline = time.monotonic() + within_s
    while not _true(happened):
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        time.sleep(0.02)


def _true(happened: Callable[[], Any]) -> bool:
    try:
        return bool(happened())
    except (RedisError, OSError):
        return False


def replicates(replica: RedisServer, primary: RedisServer) -> bool:
    """Whether a server follows the other, and is up to date."""
    with replica.client() as client:
        seen = client.info("replication")
    return bool(seen["role"] == "slave" and seen["master_port"] == primary.port and seen["master_link_status"] == "up")


def follow(replica: RedisServer, primary: RedisServer) -> None:
    """Have it follow, and return once it does and the primary counts on it."""
    with replica.client() as client:
        client.replicaof("127.0.0.1", str(primary.port))
    wait_for(lambda: replicates(replica, primary), "replication")
    with primary.client() as client:
        following = int(client.info("replication")["connected_slaves"])
        _acknowledged(client, following)


def _acknowledged(primary: Redis, following: int = 1) -> None:
    wait_for(lambda: primary.wait(following, 100) >= following, "the replica's first acknowledgement")


@contextlib.contextmanager
def replicated(directory: Path, *options: str) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary and its replica."""
    with (
        redis_server(directory / "one", *SYNC_AT_ONCE, *options) as primary,
        redis_server(directory / "two", *SYNC_AT_ONCE, *options) as replica,
    ):
        follow(replica, primary)
        yield primary, replica


@dataclass(frozen=True, slots=True)
class Watched:
    """A primary and the replica that may take its place, by the roles they begin with, and the sentinels over them."""

    primary: RedisServer
    replica: RedisServer
    sentinels: list[RedisServer]

    @property
    def url(self) -> str:
        """How a worker is told of them."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    def leads(self, server: RedisServer) -> bool:
        """Whether all sentinels name this server and it has taken the part."""
        with server.client() as client:
            took = client.info("replication")["role"] == "master"
        return took and all(_named(sentinel) == server.port for sentinel in self.sentinels)

    def convert(self, server: RedisServer, primary: RedisServer) -> None:
        """Return once what came back as a primary of its own is a replica.

        That is for the sentinels to do. Now and then they leave it alone for good, and an operator has to tell it.
        """
        try:
            wait_for(lambda: replicates(server, primary), "the old primary's new part", 2 * START_S)
        except AssertionError:
            with server.client() as client:
                client.replicaof("127.0.0.1", primary.port)
            wait_for(lambda: replicates(server, primary), "the old primary's new part as it was told", START_S)


@contextlib.contextmanager
def watched(directory: Path, *options: str, spares: int = 0, failover_timeout_s: int = 6) -> Iterator[Watched]:
    """A primary, a replica and spare ones that only follow, and three sentinels that know all of it."""
    with replicated(directory, *options) as (primary, replica), contextlib.ExitStack() as stack:
        sentinels = []
        for number in range(spares):
            spare = redis_server(directory / f"spare-{number}", *SYNC_AT_ONCE, *options, "--replica-priority", "0")
            follow(stack.enter_context(spare), primary)
        for number in range(SENTINELS):
            folder, port = directory / f"sentinel-{number}", free_port()
            folder.mkdir()
            config = folder / "sentinel.conf"
            config.write_text(
                f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} {QUORUM}\n"
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {SERVICE} {failover_timeout_s * 1000}\n"
            )
            sentinels.append(stack.enter_context(redis_server(folder, port=port, before=(str(config), "--sentinel"))))
        for sentinel in sentinels:
            wait_for(partial(_knows_all, sentinel, 1 + spares), "the sentinels' view")
        yield Watched(primary, replica, sentinels)


def _knows_all(sentinel: RedisServer, replicas: int) -> bool:
    with sentinel.client() as client:
        seen = _fields(client.execute_command("SENTINEL MASTER", SERVICE))
    return int(seen["num-slaves"]) == replicas and int(seen["num-other-sentinels"]) == SENTINELS - 1


def _named(sentinel: RedisServer) -> int:
    with sentinel.client() as client:
        return int(_fields(client.execute_command("SENTINEL MASTER", SERVICE))["port"])


def _fields(answer: Any) -> dict[str, Any]:
    """A sentinel's answer, which redis-py gives as a dict or, by version, as it came."""
    if isinstance(answer, dict):
        return answer
    words = [word.decode() for word in answer]
    return dict(zip(words[::2], words[1::2], strict=True))


@contextlib.contextmanager
def replicated_cluster(directory: Path, *options: str) -> Iterator[list[tuple[RedisServer, RedisServer]]]:
    """Three masters that serve all slots, each with its replica."""
    with redis_cluster(directory) as masters, contextlib.ExitStack() as stack:
        replicas = []
        for number in range(len(masters)):
            node = cluster_node(directory / f"replica-{number}", *SYNC_AT_ONCE, *options)
            replicas.append(stack.enter_context(node))
        for server in masters:
            with server.client() as client:
                for option, value in zip(options[::2], options[1::2], strict=True):
                    client.config_set(option.removeprefix("--"), value)
        for replica in replicas:
            meet(replica, masters)
        everybody = [*masters, *replicas]
        for server in everybody:
            wait_for(partial(_knows, server, len(everybody)), "the nodes' view")
        pairs = list(zip(masters, replicas, strict=True))
        for master, replica in pairs:
            with master.client() as followed, replica.client() as client:
                client.execute_command("CLUSTER REPLICATE", node_id(followed))
        for master, replica in pairs:
            wait_for(partial(replicates, replica, master), "replication")
            with master.client() as followed:
                _acknowledged(followed)
        for server in everybody:
            wait_for(partial(_sees_replicas, server, len(replicas)), "the nodes' view of who follows whom")
        yield pairs


def meet(node: RedisServer, cluster: list[RedisServer]) -> str:
    """Have a node meet the others; its name."""
    with node.client() as client:
        client.execute_command("CLUSTER MEET", "127.0.0.1", cluster[0].port)
        return node_id(client)


def join(node: RedisServer, cluster: list[RedisServer]) -> None:
    """Have a node meet the others, and return once all know it and it serves."""
    name = meet(node, cluster)
    for server in cluster:
        wait_for(partial(_knows_of, server, name), "the nodes' meeting")
    wait_for(partial(_serves, node), "the new node's service")


def node_id(client: Any) -> str:
    """A node's name in its cluster."""
    name = client.execute_command("CLUSTER MYID")
    return name.decode() if isinstance(name, bytes) else str(name)


def _serves(node: RedisServer) -> bool:
    with node.client() as client:
        info: Any = client.execute_command("CLUSTER INFO")
    return "cluster_state:ok" in (
        info.decode() if isinstance(info, bytes) else f"cluster_state:{info['cluster_state']}"
    )


def _knows(server: RedisServer, count: int) -> bool:
    return len(_known(server)) == count


def _knows_of(server: RedisServer, name: str) -> bool:
    return name in _known(server)


def _sees_replicas(server: RedisServer, count: int) -> bool:
    return sum("slave" in flags for flags in _nodes(server).values()) == count


def _known(server: RedisServer) -> list[str]:
    """The nodes that a node has shaken hands with, itself too."""
    return [name for name, flags in _nodes(server).items() if "handshake" not in flags]


def _nodes(server: RedisServer) -> dict[str, str]:
    """The nodes that a node has heard of, and what it thinks of them."""
    with server.client() as client:
        lines: Any = client.execute_command("CLUSTER NODES")
    if isinstance(lines, dict):
        return {fields["node_id"]: fields["flags"] for fields in lines.values()}
    return {line.split()[0]: line.split()[2] for line in lines.decode().splitlines()}
