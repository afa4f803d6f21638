"""What a fleet is told: which sockets to open, and what to play on them. Plain values that cross a pipe as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Literal, Self
from uuid import uuid4

MESSAGE = "Hello, World!"

Surface = Literal["websocket", "http", "stateless_http"]
"""`stateless_http` is the reference server's: a request meets an environment of its own, so each step is the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """Connections to open, spread over the addresses in turn.

    Named sessions are on `/sessions/{id}/...`, a new id for each socket; others on `/ws`, where the
    socket is the session. `at_once` bounds how many are being opened at a time, in all processes
    together; with `per_s` they are opened at that fixed rate instead, however long each takes.
    `sources` are addresses to connect from, a process's own in turn: one address has some 28,000
    ports to one server's.
    """

    addresses: tuple[tuple[str, int], ...]
    count: int
    surface: Surface = "websocket"
    named: bool = True
    prefix: str = ""
    tls: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every handshake or request."""
    request_ids: bool = True
    message: str = MESSAGE
    at_once: int = 64
    per_s: float | None = None
    sources: tuple[str, ...] = ()
    timeout_s: float = 60.0
    """How long one may take to open, and an answer to come."""
    first: int = 0
    """The number of the first socket: a process has a part of a fleet's."""
    fleet: str = ""
    """Begins the session ids; made up where it is empty."""

    def parts(self, processes: int) -> list[Self]:
        """Each process's part; as many as there are processes, or sockets if they are fewer."""
        processes = max(1, min(processes, self.count))
        fleet = self.fleet or uuid4().hex[:16]
        found, first = [], self.first
        for number in range(processes):
            count = self.count // processes + (number < self.count % processes)
            found.append(
                replace(
                    self,
                    count=count,
                    first=first,
                    fleet=fleet,
                    at_once=max(1, self.at_once // processes),
                    per_s=self.per_s / processes if self.per_s else None,
                    sources=self.sources[number % len(self.sources) :][:1] if self.sources else (),
                )
            )
            first += count
        return found

    def session(self, number: int) -> str:
        """The session id of a socket."""
        return f"{self.fleet}-{number}"

    def path(self, number: int, verb: str) -> str:
        """Where a socket asks for `verb`: ws, reset or step; an empty one is the session itself."""
        if self.surface == "stateless_http" or not self.named:
            return f"{self.prefix}/{verb}"
        return f"{self.prefix}/sessions/{self.session(number)}/{verb}".rstrip("/")

    def as_json(self) -> str:
        """For the pipe."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """From the pipe."""
        fields = json.loads(text)
        fields["addresses"] = tuple((host, port) for host, port in fields["addresses"])
        fields["headers"] = tuple((name, value) for name, value in fields["headers"])
        fields["sources"] = tuple(fields["sources"])
        return cls(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What to do on the open sockets.

    Closed loop: each socket takes `steps` steps, or steps until `duration_s` is over, and thinks between
    answer and next step, and before the first, for a random time (exponential, `think_s` on average).
    Open loop, with `rate_per_s`: that many steps a second on all sockets together, in turn, for
    `duration_s` or until each socket has been given `steps`.
    """

    steps: int | None = None
    duration_s: float | None = None
    think_s: float = 0.0
    rate_per_s: float | None = None
    offset_s: float = 0.0
    """When the first step of an open loop is due: processes take turns."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.duration_s is None):
            message = "either steps or duration_s says when a play ends"
            raise ValueError(message)
        if self.rate_per_s and self.think_s:
            message = "a fixed rate leaves no time to think: think_s is the closed loop's"
            raise ValueError(message)

    def parts(self, shares: list[int]) -> list[Self]:
        """Each process's part of the play, by its number of sockets."""
        if not self.rate_per_s:
            return [self for _ in shares]
        every_s = 1 / self.rate_per_s
        return [
            replace(self, rate_per_s=self.rate_per_s * share / sum(shares), offset_s=every_s * number)
            for number, share in enumerate(shares)
        ]

    def as_json(self) -> str:
        """For the pipe."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """From the pipe."""
        return cls(**json.loads(text))
