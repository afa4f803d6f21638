"""A server's WebSocket protocol between bytes and an app that sends every frame back, without a network."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable
from typing import Any

from uvicorn import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from services.surfaces.channel import Channel, Frame, Message, Receive, Send, channel_of

LIMIT_BYTES = 400
"""Longest message: above 125 bytes a frame's length takes two bytes more."""
TURNS = 8
"""Turns of the event loop in which all that was received is answered."""
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: worker\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, BINARY, CONTINUED, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def frame(
    opcode: int, payload: bytes, *, final: bool = True, mask: bytes = b"\1\2\3\4", length_bytes: int = 0
) -> bytes:
    """A client's frame; `length_bytes` (2 or 8) spells its length longer than it must be."""
    size = len(payload)
    first = opcode | (0x80 if final else 0)
    if size < 126 and not length_bytes:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 1 << 16 and length_bytes != 8:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


class Wire(asyncio.Transport):
    """A transport that keeps what is written and says when reading is paused."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.closing = False
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.ended
        if self.closing:
            return
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing


class Socket:
    """One socket, whose app sends back what it `sees` once it `may_read` on, and then maybe `fails`."""

    def __init__(self, protocol: type[WebSocketsSansIOProtocol], server: ServerState | None = None) -> None:
        self.sees: list[Frame] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.fails = False
        self.error: BaseException | None = None
        self.channel: Channel | None = None
        config = Config(
            self._app,
            interface="asgi3",
            proxy_headers=False,
            ws_max_size=LIMIT_BYTES,
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            log_config=None,
        )
        config.load()
        self.wire = Wire()
        self.server = server or ServerState()
        self.protocol = protocol(config=config, server_state=self.server, app_state={})
        self.protocol.connection_made(self.wire)

    async def opened(self) -> Socket:
        """Itself, once the handshake is done and what was written for it is forgotten."""
        await self.receives(HANDSHAKE)
        assert self.wire.written.startswith(b"HTTP/1.1 101")
        self.wire.written = b""
        return self

    async def receives(self, *chunks: bytes) -> None:
        """Have these arrive, one behind the other before the app gets to run, while the connection is open."""
        for chunk in chunks:
            if not self.wire.closing:
                self.protocol.data_received(chunk)
        await turns()

    async def lost(self) -> None:
        """Lose the connection."""
        self.wire.closing = True
        self.protocol.connection_lost(None)
        await turns()

    async def _app(self, scope: Message, receive: Receive, send: Send) -> None:
        self.channel = channel_of(scope, receive, send)
        await self.channel.serve(self._send_back(self.channel))

    async def _send_back(self, channel: Channel) -> None:
        try:
            assert not await channel.is_gone()
            await channel.accept()
            while (frame := await channel.receive()) is not None:
                self.sees.append(frame)
                await self.may_read.wait()
                await channel.send(frame if isinstance(frame, bytes) else frame.encode())
                if self.fails:
                    raise ArithmeticError
        except OSError as error:
            self.error = error
            raise


async def turns() -> None:
    """Let the app do all that it can."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The data in pieces."""
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]
