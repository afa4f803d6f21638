"""The parent of load processes: starts them, holds them at barriers, and puts their results together."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from array import array
from types import TracebackType
from typing import IO, Any, Self, cast

from metagame.load.results import Opened, Played
from metagame.load.spec import Play, Sockets

_STOP_DEADLINE_S = 10.0
_SAMPLE_BYTES = array("d").itemsize


class FleetFailed(Exception):
    """A load process ended; the text is what it wrote."""


class Fleet:
    """Load processes for the length of a `with` block.

    `open`, then any number of plays. A play begins in all processes once all have opened, and is over
    once it is over in all; `begin` and `finish` are its two halves, for what is to happen meanwhile,
    and `stop` cuts it short. `close` ends the sessions on the server, which `with` leaves to it: a
    fleet that is just left drops its connections.
    """

    def __init__(self, sockets: Sockets, *, processes: int = 1) -> None:
        self._parts = sockets.parts(processes)
        self._children: list[_Child] = []

    @property
    def pids(self) -> list[int]:
        """The load processes."""
        return [child.process.pid for child in self._children]

    def __enter__(self) -> Self:
        try:
            for _ in self._parts:
                self._children.append(_Child())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def open(self) -> Opened:
        """Open every socket; returns once all are open, or have failed to be."""
        for child, part in zip(self._children, self._parts, strict=True):
            child.tell("open", part.as_json())
        return Opened.merged([Opened.from_wire(*child.answer()) for child in self._children])

    def play(self, play: Play) -> Played:
        """Play on all sockets, and wait until it is over."""
        self.begin(play)
        return self.finish()

    def begin(self, play: Play) -> None:
        """Have it begin."""
        for child, part in zip(self._children, play.parts([part.count for part in self._parts]), strict=True):
            child.tell("play", part.as_json())

    def stop(self) -> None:
        """Have no further step sent; `finish` is still to be called."""
        for child in self._children:
            child.tell("stop", "")

    def finish(self) -> Played:
        """Wait until what was begun is over."""
        return Played.merged([Played.from_wire(*child.answer()) for child in self._children])

    def close(self) -> None:
        """End every session."""
        for child in self._children:
            child.tell("close", "")
        for child in self._children:
            child.answer()

    def _end(self) -> None:
        for child in self._children:
            child.end()


class _Child:
    def __init__(self) -> None:
        self._said: IO[bytes] = tempfile.TemporaryFile(prefix="metagame-load-")  # noqa: SIM115 - closed by `end`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "metagame.load.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            start_new_session=True,  # Ctrl-C is for the parent
        )
        self._input = cast("IO[bytes]", self.process.stdin)
        self._output = cast("IO[bytes]", self.process.stdout)

    def tell(self, word: str, text: str) -> None:
        try:
            self._input.write(f"{word} {text}\n".encode())
            self._input.flush()
        except BrokenPipeError:
            raise self._failed() from None

    def answer(self) -> tuple[dict[str, Any], array[float]]:
        line = self._output.readline()
        if not line:
            raise self._failed()
        fields: dict[str, Any] = json.loads(line)
        samples = array("d")
        size = fields.pop("samples") * _SAMPLE_BYTES
        data = self._output.read(size)
        if len(data) < size:
            raise self._failed()
        samples.frombytes(data)
        return fields, samples

    def end(self) -> None:
        """Its input ends, and so does it."""
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        try:
            self.process.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._output.close()
        self._said.close()

    def _failed(self) -> FleetFailed:
        self.process.kill()
        self.process.wait()
        self._said.seek(0)
        return FleetFailed("a load process ended: " + self._said.read().decode(errors="replace")[-2000:].strip())
