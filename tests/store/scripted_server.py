"""A Redis that says what a test tells it to, when it tells it to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import hiredis

from tests.store.samples import until

Answer = Callable[[list[bytes]], bytes | None]


class ScriptedServer:
    """Answers logins by itself, everything else by `answer`; what that leaves open is said by `say`."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _: None
        self.pace_s = 0.0
        """A pause before each answer."""
        self.reads = asyncio.Event()
        self.reads.set()
        self.connections = 0
        self.asked: list[list[bytes]] = []
        self.port = 0
        self._open: list[asyncio.StreamWriter] = []
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._open)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._open.append(writer)
        self.connections += 1
        commands = hiredis.Reader()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(1 << 16):
                commands.feed(data)
                while command := commands.gets():
                    await self._answer(command, writer)
                await self.reads.wait()
        self._open.remove(writer)
        self._serving.discard(task)
        writer.close()

    async def _answer(self, command: list[bytes], writer: asyncio.StreamWriter) -> None:
        if command[0] == b"CLIENT":
            writer.write(b"+OK\r\n")
            return
        self.asked.append(command)
        if self.pace_s:
            await asyncio.sleep(self.pace_s)
        said = self.answer(command)
        if said is not None:
            writer.write(said)

    def say(self, said: bytes) -> None:
        """On the newest connection."""
        self._open[-1].write(said)

    def hang_up(self) -> None:
        """Close the newest connection."""
        self._open[-1].close()

    async def was_asked(self, count: int) -> None:
        async def asked() -> bool:
            return len(self.asked) >= count

        await until(asked)

    async def has_open(self, count: int) -> None:
        async def open_now() -> bool:
            return self.open_connections == count

        await until(open_now)

    async def close(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


@contextlib.asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    """One that listens."""
    scripted = ScriptedServer()
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        server.close()
        await scripted.close()
