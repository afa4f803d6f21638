"""Clients of a few lines, which count every byte that comes back.

Frames are masked with zeros, which the protocol allows.
"""

from __future__ import annotations

import json
import socket
import struct
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from tests.cost.served import PATIENCE_S

MESSAGE = "Hello, World!"


class _Connection:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self.bytes_received = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _read(self, size: int) -> bytes:
        while len(self._received) < size:
            self._more()
        data, self._received = self._received[:size], self._received[size:]
        return data

    def _read_head(self) -> str:
        while b"\r\n\r\n" not in self._received:
            self._more()
        return self._read(self._received.index(b"\r\n\r\n") + 4).decode()

    def _more(self) -> None:
        data = self._socket.recv(65_536)
        assert data, "the server closed the connection"
        self._received += data
        self.bytes_received += len(data)


class Socket(_Connection):
    """One WebSocket."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__(port)
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: worker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert self._read_head().startswith("HTTP/1.1 101")

    def send(self, frame: dict[str, Any]) -> None:
        payload = json.dumps(frame, separators=(",", ":")).encode()
        size = len(payload)
        head = struct.pack("!BB", 0x81, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x81, 0xFE, size)
        self._socket.sendall(head + bytes(4) + payload)

    def receive(self) -> dict[str, Any]:
        _, size = self._read(2)
        if size == 126:
            [size] = struct.unpack("!H", self._read(2))
        answer: dict[str, Any] = json.loads(self._read(size))
        return answer

    def ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        self.send(frame)
        return self.receive()

    def reset(self) -> None:
        assert self.ask({"type": "reset", "data": {}})["type"] == "observation"

    def step(self, number: int) -> None:
        """Take a step with a request id, which must be the session's step of this number."""
        self.send_step()
        self.expect_step(number)

    def send_step(self) -> None:
        self.send({"type": "step", "data": {"message": MESSAGE}, "request_id": uuid4().hex})

    def expect_step(self, number: int) -> None:
        answer = self.receive()
        assert answer["type"] == "observation", answer
        assert answer["data"]["metadata"]["step"] == number

    def state(self) -> None:
        assert self.ask({"type": "state"})["type"] == "state"


class Http(_Connection):
    """One kept-alive connection, which asks for one session at a time."""

    def __init__(self, port: int, session_id: str = "") -> None:
        super().__init__(port)
        self.session_id = session_id

    def make(self) -> None:
        """Make a session and go on with it."""
        self.session_id = self._post("/sessions", {})["session_id"]

    def reset(self) -> None:
        self._post(f"/sessions/{self.session_id}/reset", {})

    def step(self, number: int) -> None:
        """Take a step with a request id, which must be the session's step of this number."""
        body = {"action": {"message": MESSAGE}, "request_id": uuid4().hex}
        assert self._post(f"/sessions/{self.session_id}/step", body)["metadata"]["step"] == number

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        content = json.dumps(body)
        self._socket.sendall(
            f"POST {path} HTTP/1.1\r\nHost: worker\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n{content}".encode()
        )
        head = self._read_head().lower()
        assert head.startswith(("http/1.1 200", "http/1.1 201")), head
        answer: dict[str, Any] = json.loads(self._read(int(head.partition("content-length:")[2].split("\r\n")[0])))
        return answer
