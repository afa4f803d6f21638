"""A primary, a replica and three sentinels, each node behind a line of its own.

Nodes announce their line's port, so that workers, sentinels and the other node all come through it. The
configuration is the one in which no acknowledged step is lost: every write on disk before its answer
(`appendfsync always`), none taken without a replica (`min-replicas-to-write`), and a WAIT by the workers.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chaos.lines import Line, commit_to_redis
from chaos.processes import Process, fixed_port
from chaos.resp import RedisError, Reply, ask

SERVICE = "chaos"
DOWN_AFTER_MS = 2000
"""A primary that does not answer for so long is failed over; one that restarts is back sooner."""
_SENTINELS = 3
_WELL_DEADLINE_S = 60.0
_PROMOTION_DEADLINE_S = 40.0
_POLL_S = 0.05


class NotWell(Exception):
    """Redis did not come back; the text says how it stands."""


@dataclass(frozen=True, slots=True)
class Node:
    """A redis-server, and the line through which everybody reaches it."""

    process: Process
    line: Line


class RedisNodes:
    """The processes; `folder` keeps their data, configurations and logs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        first = _node("redis-1", folder, None)
        second = _node("redis-2", folder, first.line.port)
        self.nodes = (first, second)
        self.sentinels = [_sentinel(number, folder, first.line.port) for number in range(1, _SENTINELS + 1)]

    @property
    def url(self) -> str:
        """What a worker is told."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/{SERVICE}"

    async def start(self) -> None:
        """Start all, and return when the primary has its replica and the sentinels know it and each other."""
        for node in self.nodes:
            await node.line.open()
        for process in [*(node.process for node in self.nodes), *self.sentinels]:
            await process.start()
        await self.well()

    def stop(self) -> None:
        """End all at once."""
        for process in [*self.sentinels, *(node.process for node in self.nodes)]:
            process.kill()
        for node in self.nodes:
            node.line.close()

    async def primary(self) -> Node:
        """The node that the sentinels name."""
        port = await self._named()
        return next(node for node in self.nodes if node.line.port == port)

    def other(self, node: Node) -> Node:
        """The node that is not this one."""
        return self.nodes[1] if node is self.nodes[0] else self.nodes[0]

    async def promoted(self, node: Node) -> None:
        """Wait until the sentinels name this node; raises NotWell."""
        async with _deadline(_PROMOTION_DEADLINE_S, "no failover came"):
            while await self.primary() is not node:  # noqa: ASYNC110 - sentinels are asked
                await asyncio.sleep(_POLL_S)

    async def well(self) -> None:
        """Wait until the primary has its replica again and the sentinels agree on it; raises NotWell."""
        async with _deadline(_WELL_DEADLINE_S, "the primary has no replica in line"):
            while not await self._is_well():  # noqa: ASYNC110 - as above
                await asyncio.sleep(_POLL_S)

    async def records(self, keys: Mapping[str, str]) -> dict[str, bytes | None]:
        """The raw values of the keys, by what they are called here."""
        port = (await self.primary()).process.port
        found: dict[str, bytes | None] = {}
        for name, key in keys.items():
            value = await ask(port, "GET", key)
            found[name] = value if isinstance(value, bytes) else None
        return found

    async def _named(self) -> int:
        for sentinel in self.sentinels:
            try:
                address = await ask(sentinel.port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
            except (OSError, TimeoutError, RedisError):
                continue
            if isinstance(address, list) and isinstance(address[1], bytes):
                return int(address[1])
        message = "no sentinel names a primary"
        raise NotWell(message)

    async def _is_well(self) -> bool:
        try:
            primary = await self.primary()
            replication = _fields(await ask(primary.process.port, "INFO", "replication", timeout_s=1))
            if replication.get("role") != "master" or "state=online" not in replication.get("slave0", ""):
                return False
            for sentinel in self.sentinels:
                about = _pairs(await ask(sentinel.port, "SENTINEL", "MASTER", SERVICE))
                if about["flags"] != "master" or int(about["port"]) != primary.line.port:
                    return False
                if about["num-slaves"] != "1" or about["num-other-sentinels"] != str(_SENTINELS - 1):
                    return False
        except (OSError, TimeoutError, RedisError):
            return False
        return True


def _node(name: str, folder: Path, primary: int | None) -> Node:
    port, line = fixed_port(), fixed_port()
    home = folder / name
    home.mkdir()
    lines = [
        f"port {port}",
        "bind 127.0.0.1",
        f"dir {home}",
        'save ""',
        "appendonly yes",
        "appendfsync always",
        "min-replicas-to-write 1",
        "min-replicas-max-lag 10",
        "repl-diskless-sync-delay 0",
        "replica-announce-ip 127.0.0.1",
        f"replica-announce-port {line}",
        *([] if primary is None else [f"replicaof 127.0.0.1 {primary}"]),
    ]
    configuration = home / "redis.conf"
    configuration.write_text("\n".join(lines) + "\n")
    process = Process(name, ["redis-server", str(configuration)], port, folder / f"{name}.log", {})
    return Node(process, Line(line, port, commit_to_redis))


def _sentinel(number: int, folder: Path, primary: int) -> Process:
    port, name = fixed_port(), f"sentinel-{number}"
    home = folder / name
    home.mkdir()
    configuration = home / "sentinel.conf"
    lines = [
        f"port {port}",
        "bind 127.0.0.1",
        f"dir {home}",
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2",
        f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
        f"sentinel failover-timeout {SERVICE} 6000",
    ]
    configuration.write_text("\n".join(lines) + "\n")
    return Process(name, ["redis-server", str(configuration), "--sentinel"], port, folder / f"{name}.log", {})


def hang(node: Node) -> None:
    """Stop it where it stands: it takes connections and answers nothing."""
    node.process.signal(signal.SIGSTOP)


def wake(node: Node) -> None:
    """Let it go on."""
    node.process.signal(signal.SIGCONT)


class _deadline:  # noqa: N801 - reads as the statement it is
    """Like asyncio.timeout, but raises NotWell."""

    def __init__(self, seconds: float, what: str) -> None:
        self._timeout = asyncio.timeout(seconds)
        self._what = f"{what} within {seconds:g} s"

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            await self._timeout.__aexit__(kind, error, None)
        except TimeoutError:
            raise NotWell(self._what) from None


def _fields(reply: Reply) -> dict[str, str]:
    text = reply.decode() if isinstance(reply, bytes) else ""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _pairs(reply: Reply) -> dict[str, str]:
    words = [word.decode() for word in reply if isinstance(word, bytes)] if isinstance(reply, list) else []
    return dict(zip(words[::2], words[1::2], strict=True))
