"""Real Redis servers for tests: on free ports, in directories of their own, ended by their own pid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

START_S = 20.0
MASTERS = 3


_drawn: deque[int] = deque(maxlen=1000)
"""Ports that were free and may not be listened on yet: HAProxy would share one without a word."""


def free_port() -> int:
    """A port that nobody listens on, nor is about to; for cluster nodes also its bus port, 10,000 above."""
    while True:
        with socket.socket() as one, socket.socket() as bus:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if port > 55_000 or port in _drawn or not _is_ours(port):
                continue
            with contextlib.suppress(OSError):
                bus.bind(("127.0.0.1", port + 10_000))
                _drawn.append(port)
                return port


def _is_ours(port: int) -> bool:
    """Whether the port is one for this process, where several run tests beside each other."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return port // 2 % int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) == number


class RedisServer:
    """One redis-server process; `durable` keeps every acknowledged write over a restart."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        durable: bool = False,
        port: int | None = None,
        before: tuple[str, ...] = (),
    ) -> None:
        self.directory = directory
        self._before = before
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._options = [*options, *(("--appendonly", "yes", "--appendfsync", "always") if durable else ())]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and return once it answers."""
        binary = shutil.which("redis-server")
        if binary is None:
            message = "the tests need redis-server (Debian: apt-get install redis-server; macOS: brew install redis)"
            raise RuntimeError(message)
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [binary, *self._before, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        if not self._before:
            command += ["--save", ""]
        with (self.directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([*command, *self._options], stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except RedisError:
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        log_text = (self.directory / "redis.log").read_text()
                        message = f"redis-server did not start:\n{log_text}"
                        raise RuntimeError(message) from None
                    time.sleep(0.01)
                else:
                    return

    def stop(self) -> None:
        """End with SIGKILL, as a crash would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Crash and come back on the same port."""
        self.stop()
        self.start()

    def client(self) -> Redis:
        """A plain synchronous client, for looking and for breaking things."""
        return Redis(port=self.port, socket_timeout=START_S)

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """The process stopped (SIGSTOP): it accepts connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)


@contextlib.contextmanager
def redis_server(
    directory: Path,
    *options: str,
    durable: bool = False,
    port: int | None = None,
    before: tuple[str, ...] = (),
) -> Iterator[RedisServer]:
    """A running server, ended afterwards; `before` stands before all options, as a Sentinel's configuration does."""
    server = RedisServer(directory, *options, durable=durable, port=port, before=before)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def redis_cluster(directory: Path) -> Iterator[list[RedisServer]]:
    """Three masters that serve all slots."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(cluster_node(directory / str(number))) for number in range(MASTERS)]
        bounds = [number * 16384 // MASTERS for number in range(MASTERS + 1)]
        for number, server in enumerate(servers):
            with server.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if number:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
        deadline = time.monotonic() + START_S
        while not all(_serves(server) for server in servers):
            if time.monotonic() > deadline:
                message = "the cluster's nodes did not find each other"
                raise RuntimeError(message)
            time.sleep(0.02)
        yield servers


def cluster_node(directory: Path, *options: str) -> contextlib.AbstractContextManager[RedisServer]:
    """One node, in no cluster yet; it stays a master when its last slot moves away."""
    stays = ("--cluster-allow-replica-migration", "no")
    return redis_server(directory, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", *stays, *options)


def _serves(server: RedisServer) -> bool:
    with server.client() as client:
        info = client.execute_command("CLUSTER", "INFO")
        text = info.decode() if isinstance(info, bytes) else str(info)
        known = len(client.execute_command("CLUSTER", "SLOTS"))
    return known == MASTERS and ("cluster_state:ok" in text or "'cluster_state': 'ok'" in text)


class Proxy:
    """A TCP proxy before a Redis; `cut` loses the answer to whatever is asked next."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._passing: int | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.cuts = 0
        self.connections = 0
        """How many were asked for, those that the Redis behind refused too."""
        self.port = 0

    def cut(self, *, after: int = 0) -> None:
        """Pass this many answers, then one more request, and close in place of its answer."""
        self._passing = after

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._behind)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, behind_writer}
        answers = asyncio.create_task(self._answers(behind_reader, writer))
        try:
            while data := await reader.read(65_536):
                behind_writer.write(data)
                await behind_writer.drain()
        except OSError:
            pass
        finally:
            answers.cancel()
            for end in (writer, behind_writer):
                end.close()
                self._writers.discard(end)

    def close(self) -> None:
        """Close what is open."""
        for writer in self._writers:
            writer.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self._passing == 0:
                    self._passing = None
                    self.cuts += 1
                    writer.close()
                    return
                if self._passing is not None:
                    self._passing -= 1
                writer.write(data)
                await writer.drain()
            writer.close()


@contextlib.asynccontextmanager
async def proxied(port: int) -> AsyncIterator[Proxy]:
    """A proxy on a free port."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.close()
