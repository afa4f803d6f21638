"""Connections as cheap as they can be: callbacks, no tasks; a frame is checked in place where it comes whole.

A connection is told whom to call with each answer and with the text of what ended it. Frames are masked
with zeros, which the protocol allows, and no compression is offered. Nothing here knows what a step is.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import Callable
from typing import cast

_HEAD_END = b"\r\n\r\n"
_FINAL, _MASKED = 0x80, 0x80
_TEXT, _BINARY, _CLOSE, _PING = 1, 2, 8, 9
_MASK = b"\0\0\0\0"


class Connection(asyncio.Protocol):
    """What both kinds share. Either callback may be changed at any time.

    `on_answer` gets the answer's bytes; `on_lost` is called once, unless `drop` was.
    """

    def __init__(self, host: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._head = "".join(f"{name}: {value}\r\n" for name, value in (("Host", host), *headers))
        self.transport: asyncio.Transport
        self.on_answer: Callable[[bytes], None] = _ignore
        self.on_lost: Callable[[str], None] = _ignore
        self.lost: str | None = None
        """What ended it."""
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whom it concerns, unless the end was told already."""
        self._end(str(exc) if exc else "the server closed the connection")

    def drop(self) -> None:
        """End it from here, without a word to anybody."""
        if self.lost is None:
            self.lost = "dropped"
        self.transport.abort()

    def _end(self, why: str) -> None:
        if self.lost is None:
            self.lost = why
            self.on_lost(why)


class WebSocket(Connection):
    """A WebSocket: `upgrade` first, whose answer is the first one handed over; from then on each is a message."""

    def __init__(self, host: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(host, headers)
        self._upgraded = False
        self._pieces = b""

    def upgrade(self, path: str) -> None:
        """Ask to become a WebSocket. Refused, the connection is lost, and the answer is the reason."""
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {path} HTTP/1.1\r\n{self._head}Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.transport.write(request.encode())

    @staticmethod
    def encode(payload: bytes, opcode: int = _TEXT) -> bytes:
        """The bytes of a message as they are sent."""
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", _FINAL | opcode, _MASKED | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", _FINAL | opcode, _MASKED | 126, size)
        else:
            head = struct.pack("!BBQ", _FINAL | opcode, _MASKED | 127, size)
        return head + _MASK + payload

    def data_received(self, data: bytes) -> None:
        """Hand over each whole message; nearly always the data are exactly one."""
        if not self._received and self._upgraded:
            size = data[1] if len(data) > 1 else 0
            if size == 126 and len(data) > 4:
                if data[0] == _FINAL | _TEXT and len(data) == 4 + (data[2] << 8 | data[3]):
                    self.on_answer(data[4:])
                    return
            elif data[0] == _FINAL | _TEXT and len(data) == 2 + size:
                self.on_answer(data[2:])
                return
        self._received += data
        if not self._upgraded:
            self._read_upgrade()
        while self._upgraded and self.lost is None and self._read_frame():
            pass

    def _read_upgrade(self) -> None:
        end = self._received.find(_HEAD_END)
        if end < 0:
            return
        head = bytes(self._received[:end])
        del self._received[: end + 4]
        if not head.startswith(b"HTTP/1.1 101 "):
            self._end(f"no WebSocket: {head.splitlines()[0].decode(errors='replace')}")
            self.transport.abort()
            return
        self._upgraded = True
        self.on_answer(head)

    def _read_frame(self) -> bool:
        """Take one frame out of what has come; whether there was a whole one."""
        received = self._received
        if len(received) < 2:
            return False
        start, size = 2, received[1] & 0x7F
        for marker, length in ((126, 2), (127, 8)):
            if size == marker:
                start = 2 + length
                if len(received) < start:
                    return False
                size = int.from_bytes(received[2:start], "big")
                break
        if len(received) < start + size:
            return False
        first, payload = received[0], bytes(received[start : start + size])
        del received[: start + size]
        self._take(first & _FINAL != 0, first & 0x0F, payload)
        return True

    def _take(self, final: bool, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self.transport.write(self.encode(payload, opcode=10))
        elif opcode == _CLOSE:
            code = int.from_bytes(payload[:2], "big") if len(payload) > 1 else 1005
            self.transport.write(self.encode(payload[:2], opcode=_CLOSE))
            reason = payload[2:].decode(errors="replace")
            self._end(f"the server closed the socket with {code}{' ' + reason if reason else ''}")
        elif opcode in {0, _TEXT, _BINARY}:
            self._pieces += payload
            if final:
                whole, self._pieces = self._pieces, b""
                self.on_answer(whole)


class Http(Connection):
    """A kept-alive HTTP/1.1 connection; an answer is a body, or whole where its status is not 2xx."""

    def encode(self, method: str, path: str, body: bytes) -> bytes:
        """The bytes of a request as they are sent."""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def data_received(self, data: bytes) -> None:
        """Hand over each whole answer."""
        self._received += data
        while self.lost is None and self._read_answer():
            pass

    def _read_answer(self) -> bool:
        received = self._received
        end = received.find(_HEAD_END)
        if end < 0:
            return False
        start = end + 4
        head = bytes(received[:end])
        status = head[9:12]
        found = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        if not found and status != b"204":
            self._end(f"an answer without Content-Length: {head[:100].decode(errors='replace')}")
            self.transport.abort()
            return False
        size = int(found or 0)
        if len(received) < start + size:
            return False
        body = bytes(received[start : start + size])
        del received[: start + size]
        self.on_answer(body if status[:1] == b"2" else b"HTTP " + head[9:].partition(b"\r\n")[0] + b": " + body)
        return True


def _ignore(_: bytes | str) -> None:
    """Nobody waits."""
