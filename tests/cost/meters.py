"""What Redis itself says was asked of it: which commands, in how many reads and bytes.

Over connections that parse next to nothing, so that what the measuring costs is known to the byte.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.cost.served import PATIENCE_S

_LINE = re.compile(rb'\+[0-9.]+ \[[0-9]+ (?P<origin>[^\]]+)\] "(?P<command>[^"]*)"')


@dataclass(frozen=True, slots=True)
class Traffic:
    """What clients sent to a Redis and got from it. A read is one look at a socket: a round trip, or a part of one."""

    reads: int
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class Commands:
    """What was asked of a Redis, in order: by clients, and by scripts."""

    asked: tuple[str, ...]
    inside: tuple[str, ...]


class Meter:
    """Reads INFO."""

    def __init__(self, port: int) -> None:
        self._line = _Line(port)
        self._own = Traffic(0, 0, 0)
        self._own = self.of(lambda: None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()

    def of(self, work: Callable[[], object]) -> Traffic:
        """The traffic of this work, without what the measuring costs."""
        before, size = self._look()
        work()
        after, _ = self._look()
        return Traffic(
            after.reads - before.reads - self._own.reads,
            after.bytes_in - before.bytes_in - self._own.bytes_in,
            # INFO's answer is counted behind what it says, and its numbers may grow by a digit.
            after.bytes_out - before.bytes_out - size,
        )

    def used_memory(self) -> int:
        """Bytes that Redis has allocated."""
        return _number(self._line.bulk(b"INFO memory\r\n"), b"used_memory")

    def memory_usage(self, key: str) -> int:
        """Bytes of one key, all its elements looked at."""
        return int(self._line.ask(f"MEMORY USAGE {key} SAMPLES 0\r\n".encode())[1:])

    def _look(self) -> tuple[Traffic, int]:
        """The counts so far, and how many bytes it took to say so."""
        text = self._line.bulk(b"INFO stats\r\n")
        names = (b"total_reads_processed", b"total_net_input_bytes", b"total_net_output_bytes")
        return Traffic(*[_number(text, name) for name in names]), len(f"${len(text)}\r\n") + len(text) + 2


class Monitor:
    """Reads MONITOR."""

    def __init__(self, port: int) -> None:
        self._shown = _Line(port)
        self._marks = _Line(port)
        assert self._shown.ask(b"MONITOR\r\n") == b"+OK"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.close()
        self._marks.close()

    def of(self, work: Callable[[], object]) -> Commands:
        """The commands of this work."""
        self._mark()
        work()
        found = self._mark()
        return Commands(
            tuple(command for origin, command in found if origin != "lua"),
            tuple(command for origin, command in found if origin == "lua"),
        )

    def _mark(self) -> list[tuple[str, str]]:
        """Origin and name of every command since the last mark."""
        self._marks.ask(b"ECHO mark\r\n", lines=2)
        found: list[tuple[str, str]] = []
        while True:
            match = _LINE.match(self._shown.line())
            assert match is not None
            origin, command = match["origin"].decode(), match["command"].decode().upper()
            if origin == self._marks.address:
                return found
            found.append((origin, command))


class _Line:
    """A connection to Redis that speaks its inline protocol."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._file = self._socket.makefile("rb")
        self.address = "{}:{}".format(*self._socket.getsockname())

    def ask(self, command: bytes, lines: int = 1) -> bytes:
        """The last of so many lines of the reply."""
        self._socket.sendall(command)
        for _ in range(lines):
            reply = self.line()
            assert not reply.startswith(b"-"), reply
        return reply

    def bulk(self, command: bytes) -> bytes:
        """The reply, a string of any length."""
        size = int(self.ask(command)[1:])
        return self._file.read(size + 2)[:-2]

    def line(self) -> bytes:
        return self._file.readline().removesuffix(b"\r\n")

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def _number(info: bytes, name: bytes) -> int:
    return int(info.partition(b"\n" + name + b":")[2].split(b"\r\n", 1)[0])
