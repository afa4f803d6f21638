"""A worker that writes down what reaches it, and may hang up instead of answering."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Recorder:
    """One HTTP server; `requests` holds the head of each request but the balancer's checks, in order."""

    def __init__(self, content_type: str) -> None:
        self.port = 0
        self._content_type = content_type
        self.requests: list[str] = []
        self.hang_ups = 0
        """How many requests to come are taken and not answered."""
        self._connections: set[asyncio.Task[None]] = set()

    def values(self, header: str) -> list[list[str]]:
        """What each request has under this header."""
        return [
            [line.partition(":")[2].strip() for line in head.split("\r\n")[1:] if line.lower().startswith(f"{header}:")]
            for head in self.requests
        ]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, in a task of its own that ends with the recorder."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        # asyncio would log the cancellation as a failure.
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._answer(reader, writer)
        writer.close()
        self._connections.discard(task)

    async def close(self) -> None:
        """Hang up on everybody."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next((line for line in head.lower().split("\r\n") if line.startswith("content-length:")), ":0")
            await reader.readexactly(int(length.partition(":")[2]))
            if not head.startswith("GET /ready "):
                self.requests.append(head)
                if self.hang_ups:
                    self.hang_ups -= 1
                    return
            writer.write(
                f"HTTP/1.1 200 OK\r\nContent-Type: {self._content_type}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
            )
            await writer.drain()


@asynccontextmanager
async def recorder(content_type: str = "application/json") -> AsyncIterator[Recorder]:
    """A recorder that listens inside the block; its answers are `{}` of this type."""
    one = Recorder(content_type)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        await one.close()
