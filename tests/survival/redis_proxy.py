"""Between a worker and its Redis: holds a script's call or its answer back, and cuts lines.

A call is recognised by its script's SHA, so the script must have run before on that Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from services.store import scripts

_CHUNK_BYTES = 262_144


class RedisProxy:
    """A TCP proxy of one Redis; every trap is sprung once."""

    def __init__(self, port: int, behind: int) -> None:
        self.port = port
        self.held = 0
        """Calls and answers that are or were held back."""
        self.cuts = 0
        self._behind = behind
        self._away = False
        self._calls: set[bytes] = set()
        self._answers: set[bytes] = set()
        self._cut: set[bytes] = set()
        self._stay_away = False
        self._release = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def hold_calls(self, *names: str) -> None:
        """Hold each script's next call back, before Redis sees it."""
        self._calls |= {_sha(name) for name in names}

    def hold_answer(self, name: str) -> None:
        """Let Redis carry the script's next call out, and hold the answer back."""
        self._answers.add(_sha(name))

    def cut_answer(self, name: str, *, stay_away: bool = False) -> None:
        """Let Redis carry the script's next call out, and drop the line in place of the answer."""
        self._cut.add(_sha(name))
        self._stay_away = stay_away

    def release(self) -> None:
        """Let go of what is held."""
        self._release.set()

    def come_back(self) -> None:
        """Take connections again."""
        self._away = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, in a task of its own that ends with the proxy."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._away:
                return
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._behind)
            line = _Line()
            ways = [
                asyncio.ensure_future(self._requests(reader, behind_writer, line)),
                asyncio.ensure_future(self._replies(behind_reader, writer, line)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                behind_writer.close()
        except (OSError, asyncio.CancelledError):
            pass  # Redis is away, or the proxy is; asyncio would log the cancellation as a failure
        finally:
            writer.close()
            self._tasks.discard(task)

    async def close(self) -> None:
        """Drop every line."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _requests(self, reader: asyncio.StreamReader, behind: asyncio.StreamWriter, line: _Line) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                if _take(self._calls, data):
                    self.held += 1
                    await self._release.wait()
                line.holding = line.holding or _take(self._answers, data)
                line.cutting = line.cutting or _take(self._cut, data)
                behind.write(data)
                await behind.drain()

    async def _replies(self, behind: asyncio.StreamReader, writer: asyncio.StreamWriter, line: _Line) -> None:
        with contextlib.suppress(OSError):
            while data := await behind.read(_CHUNK_BYTES):
                if line.holding:
                    line.holding = False
                    self.held += 1
                    await self._release.wait()
                if line.cutting:
                    self.cuts += 1
                    if self._stay_away:
                        self._away = True
                        for task in self._tasks - {asyncio.current_task()}:
                            task.cancel()
                    return
                writer.write(data)
                await writer.drain()


class _Line:
    """What becomes of one connection's next answer."""

    def __init__(self) -> None:
        self.holding = False
        self.cutting = False


@contextlib.asynccontextmanager
async def redis_proxy(port: int, behind: int) -> AsyncIterator[RedisProxy]:
    """A proxy that listens on `port` inside the block."""
    proxy = RedisProxy(port, behind)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", port)
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()


def _sha(name: str) -> bytes:
    script: scripts.Script = getattr(scripts, f"_{name.upper()}")
    return script.sha.encode()


def _take(traps: set[bytes], data: bytes) -> bool:
    """Whether a trap waits for something in `data`; it is sprung."""
    sprung = {sha for sha in traps if sha in data}
    traps -= sprung
    return bool(sprung)
