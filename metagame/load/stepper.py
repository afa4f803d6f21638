"""One session over one connection: which step comes next, and whether an answer is the right one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

from metagame.load.connections import Connection, Http, WebSocket
from metagame.load.spec import Sockets

_STEP = re.compile(rb'"step"\s*:\s*(\d+)(?!\d)')
_ID_LENGTH = 32


class Stepper:
    """Sends a step when told to, and tells when it was answered (`on_step`) or not as it must be (`on_error`).

    Whoever is told of an error finds in `busy` whether a step has come to its end by it, and clears it.
    An error answer leaves open whether the step counted, so the next right answer may be of either
    number. A stateless server's steps are all the first.
    """

    def __init__(self, connection: Connection, number: int, sockets: Sockets) -> None:
        self.connection = connection
        self.number = number
        self.busy = False
        self.since = 0.0
        """The moment from which the latency of the step under way counts."""
        self.sent_at = 0.0
        self.left = 0
        """Steps that a play has for it."""
        self.missed: list[str] = [] if connection.lost is None else [connection.lost]
        """Errors that came while nobody played."""
        self.on_step: Callable[[Stepper, float], None]
        self.on_error: Callable[[Stepper, str], None]
        self._counts = sockets.surface != "stateless_http"
        self._taken = 0
        self._doubts = 0
        self._sent = 0
        self._id = b""
        self._with_id = sockets.request_ids
        self._id_start = b"%08x" % number
        self._before, self._after = _step_frame(connection, number, sockets)
        self._write = connection.transport.write
        connection.on_answer = self._answered
        connection.on_lost = self._lost
        self.rest()

    @property
    def lost(self) -> str | None:
        """What ended the connection, if something did."""
        return self.connection.lost

    def rest(self) -> None:
        """Keep in `missed` what goes wrong, until a play listens again."""
        self.on_step = _ignore
        self.on_error = _miss

    def step(self, since: float) -> None:
        """Send the next step; its latency counts from `since`."""
        self.busy = True
        self.since = since
        self._sent += 1
        if self._with_id:
            self._id = identity = b"%b%024x" % (self._id_start, self._sent)
            self._write(self._before + identity + self._after)
        else:
            self._write(self._before)
        self.sent_at = time.perf_counter()

    def give_up(self, why: str) -> None:
        """Drop the connection on which nothing comes any more."""
        self.connection.drop()
        self._lost(why)

    def _answered(self, answer: bytes) -> None:
        now = time.perf_counter()
        if not self.busy:
            self.on_error(self, f"an answer to nothing: {_shown(answer)}")
            return
        due = self._taken + 1 if self._counts else 1
        if not self._doubts and b'"step":%d}' % due in answer and self._id in answer:
            self._taken = due
            self.busy = False
            self.on_step(self, now)
            return
        self._examine(answer, due, now)

    def _examine(self, answer: bytes, due: int, now: float) -> None:
        """The same without haste: however the server writes its JSON, and after errors."""
        found = _STEP.search(answer)
        number = int(found[1]) if found else None
        if number is None or not due <= number <= due + self._doubts:
            self._doubts += self._counts
            self.on_error(self, f"step {due}: {_shown(answer)}")
            return
        self._taken, self._doubts = number, 0
        if self._id not in answer:
            self.on_error(self, f"step {due}: not the request id that was sent: {_shown(answer)}")
        else:
            self.busy = False
            self.on_step(self, now)

    def _lost(self, why: str) -> None:
        self.on_error(self, why)


def _step_frame(connection: Connection, number: int, sockets: Sockets) -> tuple[bytes, bytes]:
    """What is sent for a step, before and after its request id; all of it before, where there is none."""
    action = {"message": sockets.message}
    body: dict[str, Any] = {"type": "step", "data": action} if isinstance(connection, WebSocket) else {"action": action}
    placeholder = "?" * _ID_LENGTH
    if sockets.request_ids:
        body["request_id"] = placeholder
    payload = json.dumps(body, separators=(",", ":")).encode()
    if isinstance(connection, Http):
        frame = connection.encode("POST", sockets.path(number, "step"), payload)
    else:
        frame = WebSocket.encode(payload)
    if not sockets.request_ids:
        return frame, b""
    before, _, after = frame.rpartition(placeholder.encode())
    return before, after


def _miss(stepper: Stepper, text: str) -> None:
    stepper.busy = False
    stepper.missed.append(text)


def _ignore(_: Stepper, __: float) -> None:
    """Nobody plays."""


def _shown(answer: bytes) -> str:
    return answer[:250].decode(errors="replace")
