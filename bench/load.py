"""The load: sockets that each send a step, wait for its answer, and send the next.

A WebSocket client of a few lines, so that the load generator costs little beside the server:
frames masked with zeros, which the protocol allows, and no compression offered. Every answer is
looked at for the step number it must carry.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

MESSAGE = "Hello, World!"
_HANDSHAKE_END = b"\r\n\r\n"
_TEXT, _MASKED = 0x81, 0x80


class WrongAnswer(Exception):
    """The server answered what it must not; the text is the answer."""


@dataclass(frozen=True, slots=True)
class Load:
    """Where to send steps, and what a step looks like.

    `path` may hold `{socket}`, the socket's number. `frame` makes the step frame from the socket's
    and the step's number.
    """

    port: int
    path: str
    frame: Callable[[int, int], str]


class Socket(asyncio.Protocol):
    """One WebSocket; `ask` sends a text frame and returns the next one received."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._upgraded = False
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whoever waits."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server closed the socket"))

    def data_received(self, data: bytes) -> None:
        """Hand over a whole frame, or the whole answer to the upgrade."""
        self._received += data
        if not self._upgraded:
            if _HANDSHAKE_END in self._received:
                self._upgraded = True
                self._hand_over(len(self._received), 0)
            return
        if len(self._received) < 2:
            return
        start, length = 2, self._received[1]
        if length == 126:
            if len(self._received) < 4:
                return
            start, length = 4, struct.unpack_from("!H", self._received, 2)[0]
        if len(self._received) >= start + length:
            self._hand_over(start + length, start)

    async def upgrade(self, path: str) -> None:
        """Become a WebSocket."""
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self._transport.write(request.encode())
        answer = await self._next()
        if not answer.startswith(b"HTTP/1.1 101"):
            raise WrongAnswer(answer.decode(errors="replace"))

    async def ask(self, text: str) -> bytes:
        """The answer to one frame."""
        payload = text.encode()
        size = len(payload)
        head = (
            struct.pack("!BB", _TEXT, _MASKED | size) if size < 126 else struct.pack("!BBH", _TEXT, _MASKED | 126, size)
        )
        self._transport.write(head + b"\0\0\0\0" + payload)
        return await self._next()

    def close(self) -> None:
        """Drop the socket."""
        self._transport.abort()

    async def _next(self) -> bytes:
        self._answer = asyncio.get_running_loop().create_future()
        return await self._answer

    def _hand_over(self, end: int, start: int) -> None:
        answer = bytes(self._received[start:end])
        del self._received[:end]
        if self._answer is None or self._answer.done():
            raise WrongAnswer(answer.decode(errors="replace"))
        self._answer.set_result(answer)


async def open_sockets(load: Load, count: int) -> list[Socket]:
    """Connected sockets, each at the start of an episode."""
    sockets = []
    for number in range(count):
        _, socket = await asyncio.get_running_loop().create_connection(Socket, "127.0.0.1", load.port)
        await socket.upgrade(load.path.format(socket=number))
        ready = await socket.ask('{"type":"reset","data":{}}')
        if b'"observation"' not in ready:
            raise WrongAnswer(ready.decode(errors="replace"))
        sockets.append(socket)
    return sockets


async def step_all(load: Load, sockets: list[Socket], first: int, steps: int) -> list[float]:
    """Steps `first` to `first + steps - 1` on every socket at once; the latencies in ms."""
    latencies_ms: list[float] = []

    async def one(number: int, socket: Socket) -> None:
        for step in range(first, first + steps):
            frame = load.frame(number, step)
            before = time.perf_counter()
            answer = await socket.ask(frame)
            latencies_ms.append((time.perf_counter() - before) * 1000)
            if b'"step":%d' % step not in answer.replace(b" ", b""):
                raise WrongAnswer(answer.decode(errors="replace"))

    await asyncio.gather(*(one(number, socket) for number, socket in enumerate(sockets)))
    return latencies_ms


def stock_frame(socket: int, step: int) -> str:  # noqa: ARG001 - all alike
    """A step as OpenEnv's own client sends it."""
    return f'{{"type":"step","data":{{"message":"{MESSAGE}"}}}}'


def frame_with_request_id(socket: int, step: int) -> str:
    """A step that is safe to send again."""
    return f'{{"type":"step","data":{{"message":"{MESSAGE}"}},"request_id":"{socket:08x}{step:024x}"}}'
