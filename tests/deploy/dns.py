"""A DNS server of one name, that says what a test wants it to say."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

A = 1
RESPONSE, NX = 0x8400, 3


class Dns:
    """Answers with `addresses`; with None, that there is no such name. Other names do not exist."""

    def __init__(self, name: str) -> None:
        self.addresses: list[str] | None = []
        self.silent = False
        self.asked = 0
        """Questions of the name so far, answered or not."""
        self._name = name
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def serve(self) -> None:
        """Answer until the socket is closed."""
        while True:
            try:
                question, sender = self._socket.recvfrom(65_535)
            except OSError:
                return
            if not question:
                return
            answer = self._answer(question)
            if not self.silent:
                self._socket.sendto(answer, sender)

    def close(self) -> None:
        """Have `serve` return."""
        self._socket.sendto(b"", ("127.0.0.1", self.port))

    def forget(self) -> None:
        """Free the port."""
        self._socket.close()

    def _answer(self, question: bytes) -> bytes:
        end = question.index(b"\0", 12) + 5
        name, kind = _labels(question[12 : end - 4]), struct.unpack_from(">H", question, end - 4)[0]
        known = name == self._name and self.addresses is not None
        self.asked += name == self._name
        addresses = (self.addresses or []) if known and kind == A else []
        head = struct.pack(
            ">6H", *struct.unpack_from(">H", question), RESPONSE | (0 if known else NX), 1, len(addresses), 0, 0
        )
        rows = [struct.pack(">HHHIH", 0xC00C, A, 1, 5, 4) + socket.inet_aton(address) for address in addresses]
        return head + question[12:end] + b"".join(rows)


@contextmanager
def dns(name: str) -> Iterator[Dns]:
    """A running server."""
    server = Dns(name)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()
        server.forget()


def _labels(encoded: bytes) -> str:
    labels, at = [], 0
    while encoded[at]:
        labels.append(encoded[at + 1 : at + 1 + encoded[at]].decode())
        at += 1 + encoded[at]
    return ".".join(labels)
