"""fakeredis behind a socket: its commands in our process, reached by the real client over the real protocol.

fakeredis' own `TcpFakeServer` looks at its sockets a hundred times a second, and has a thread a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import fakeredis
import hiredis
from redis.exceptions import NoScriptError, ResponseError


@contextlib.asynccontextmanager
async def fake_redis() -> AsyncIterator[str]:
    """The URL of an empty fakeredis that lives as long as this."""
    fake = FakeRedis()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await fake.close()


class FakeRedis:
    """One database; a command is carried out when it is read, so that each is atomic."""

    def __init__(self) -> None:
        self._client: Any = fakeredis.FakeRedis(protocol=2)
        self._client.response_callbacks.clear()  # replies as they are on the wire
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        commands = hiredis.Reader()
        try:
            while data := await reader.read(65_536):
                commands.feed(data)
                while command := commands.gets():
                    writer.write(_encode(self._carry_out(command)))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._serving.discard(task)
            writer.close()

    async def close(self) -> None:
        """End what is open."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self._client.close()

    def _carry_out(self, command: list[bytes]) -> Any:
        try:
            return self._client.execute_command(*command)
        except ResponseError as refusal:
            return refusal


def _encode(reply: Any) -> bytes:
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, ResponseError):
        word = b"NOSCRIPT " if isinstance(reply, NoScriptError) else b""  # the client takes it away
        return b"-%b%b\r\n" % (word, str(reply).encode())
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join([_encode(item) for item in reply])
    data = reply.encode() if isinstance(reply, str) else reply
    return b"$%d\r\n%b\r\n" % (len(data), data)
