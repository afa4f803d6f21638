"""A command on its way to Redis, and what an error reply to it means.

Redis says the kind of an error with its first word. A refused command was certainly not carried out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Protocol

from hiredis import pack_command

from .base import StoreFull, StoreUnavailable
from .scripts import Argument, Command

_ELSEWHERE = frozenset({"CLUSTERDOWN", "TRYAGAIN"})
_UNFIT = frozenset({"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS", "NOREPLICAS"})
"""Refusals of a server that would refuse the next command too: another one may serve by now."""
_REDIRECT = re.compile(r"(MOVED|ASK) [0-9]+ (.*):([0-9]{1,5})", re.ASCII)


def pack(words: tuple[Argument, ...]) -> bytes:
    """The command as Redis reads it."""
    packed: bytes = pack_command(words)  # type: ignore[arg-type] # its stub: one word only
    return packed


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many replicas must have a batch before its answers count, and how long they may take."""

    count: int
    timeout_ms: int

    def wait(self) -> bytes:
        """The command that asks for it."""
        return pack(("WAIT", str(self.count), str(self.timeout_ms)))


class Refusal(Exception):
    """An error reply; never raised."""

    @property
    def word(self) -> str:
        """Its kind."""
        return str(self).partition(" ")[0]


class Receiver(Protocol):
    """Who is told the reply: a future, or what behaves as one."""

    def done(self) -> bool:
        """Whether a reply is not wanted any more: there is one, or its sender was cancelled."""

    def set_result(self, reply: Any, /) -> None:
        """Take the reply."""

    def set_exception(self, error: StoreUnavailable, /) -> None:
        """Take the reason why there is none."""


class Request:
    """A command, who is told the reply, and until when (loop time)."""

    __slots__ = ("command", "packed", "receiver", "until")

    def __init__(self, command: Command, receiver: Receiver, until: float) -> None:
        self.command = command
        self.packed = command.packed or pack(command.words)
        self.receiver = receiver
        self.until = until

    def with_source(self) -> bytes:
        """The script's call with its source, for a server that does not know it."""
        script = self.command.script
        return self.packed if script is None else pack(("EVAL", script.source, *self.command.words[2:]))

    def answer(self, reply: Any) -> None:
        """Hand the reply out."""
        if not self.receiver.done():
            self.receiver.set_result(reply)

    def fail(self, error: StoreUnavailable) -> None:
        """Say that there is no reply."""
        if not self.receiver.done():
            self.receiver.set_exception(error)


@dataclass(slots=True)
class Report:
    """How a batch went, for whoever keeps the queues."""

    failed: bool = False
    """Whether a request got no reply."""
    given_up: str | None = None
    """Why the server is not to be trusted with the next batch."""
    elsewhere: bool = False
    """Whether the server said that keys have moved."""
    redirected: list[tuple[Request, str, int]] = field(default_factory=list)
    """Requests that were certainly not carried out, and the address that the server named for each."""

    def refused(self, request: Request, refusal: Refusal) -> None:
        """Redirect the request or tell its sender."""
        text, word = str(refusal), refusal.word
        redirect = _REDIRECT.fullmatch(text)
        if redirect is not None:
            self.redirected.append((request, redirect[2], int(redirect[3])))
            self.elsewhere |= word == "MOVED"
            return
        reason = f"refused: {text}"
        self.failed = True
        request.fail(StoreFull(reason) if word == "OOM" else StoreUnavailable(reason, unknown=False))
        self.elsewhere |= word in _ELSEWHERE
        if word in _UNFIT:
            self.given_up = reason

    def fail(self, requests: list[Request], reason: str, *, unknown: bool) -> None:
        """Tell the senders that there is no reply."""
        self.failed |= bool(requests)
        for request in requests:
            request.fail(StoreUnavailable(reason, unknown=unknown))
