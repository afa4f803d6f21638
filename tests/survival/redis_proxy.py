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
    """A TCP proxy of one Redis. What is held stays held, when sent again too; a cut happens once."""

    def __init__(self, port: int, behind: int) -> None:
        self.port = port
        self.held: set[str] = set()
        """Names of the scripts of which a call or an answer was held back."""
        self.cuts = 0
        self._behind = behind
        self._away = False
        self._calls: set[str] = set()
        self._answers: set[str] = set()
        self._cut: set[str] = set()
        self._stay_away = False
        self._release = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def hold_calls(self, *names: str) -> None:
        """Hold these scripts' calls back, before Redis sees them."""
        self._calls.update(names)

    def hold_answer(self, name: str) -> None:
        """Let Redis carry the script out, and hold the answers back."""
        self._answers.add(name)

    def cut_answer(self, name: str, *, stay_away: bool = False) -> None:
        """Let Redis carry the script's next call out, and drop the line in place of the answer."""
        self._cut.add(name)
        self._stay_away = stay_away

    def release(self) -> None:
        """Let go of what is held, and hold no more."""
        self._calls.clear()
        self._answers.clear()
        self._release.set()

    def go_away(self) -> None:
        """Drop every line, and take none."""
        self._away = True
        for task in self._tasks:
            task.cancel()

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
                if called := _called(self._calls, data):
                    self.held |= called
                    await self._release.wait()
                line.holding |= _called(self._answers, data)
                if cut := _called(self._cut, data):
                    self._cut -= cut
                    line.cutting = True
                behind.write(data)
                await behind.drain()

    async def _replies(self, behind: asyncio.StreamReader, writer: asyncio.StreamWriter, line: _Line) -> None:
        with contextlib.suppress(OSError):
            while data := await behind.read(_CHUNK_BYTES):
                if line.holding:
                    self.held |= line.holding
                    await self._release.wait()
                    line.holding.clear()
                if line.cutting:
                    self.cuts += 1
                    if self._stay_away:
                        self.go_away()
                    return
                writer.write(data)
                await writer.drain()


class _Line:
    """What becomes of one connection's next answer."""

    def __init__(self) -> None:
        self.holding: set[str] = set()
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


def _called(names: set[str], data: bytes) -> set[str]:
    """Which of these scripts are called in `data`."""
    return {name for name in names if _sha(name) in data}


def _sha(name: str) -> bytes:
    script: scripts.Script = getattr(scripts, f"_{name.upper()}")
    return script.sha.encode()
