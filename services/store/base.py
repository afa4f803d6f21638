"""The border between engine and store: what a store keeps and the words it answers with.

A store keeps one record a session and one place a session in the pool. It knows neither
games nor clients: the body is opaque bytes. Every verb is safe to send again with the same
arguments, which is what resend.py does when an answer was lost.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from metagame.value import value

GENERATION_BYTES = 16
ATTACHMENT_BYTES = 16
LEASE_MS = 25_000
RESERVED_MS = 10_000
"""How long a place may be without its record before it is doubtful."""


WORD_MS = 30_000
"""How long a worker that says nothing more is kept in mind."""


class Origin(Enum):
    """Who brought a session into being, and so what ends it."""

    ANONYMOUS = "a"
    """A socket without a name: ends with the socket."""
    NAMED = "n"
    """A reset: a `close` frame ends it."""
    MADE = "m"
    """`POST /sessions`: only an explicit end or its TTL ends it."""
    AGENT = "g"
    """An agent's `initialize` or `openenv/session/create`: the same, and an agent may end it."""

    @property
    def word(self) -> str:
        """As counts and log name it."""
        return self.name.lower()


class Word(Enum):
    """What a store answers."""

    MADE = "made"
    COMMITTED = "committed"
    RENEWED = "renewed"
    REPLAYED = "replayed"
    CONFLICT = "conflict"
    STALE = "stale"
    SUPERSEDED = "superseded"
    GONE = "gone"
    FULL = "full"


@value
class Record:
    """A session as stored.

    `generation`: 16 bytes, a big-endian counter and 64 random bits. `attachment`: 16 bytes, or
    empty where no socket is attached. `remembered`: entries of
    `metagame.core.remembered`, newest first. `expires_in_ms` is set by `page` and `inspect` only.
    """

    origin: Origin
    generation: bytes
    body: bytes
    remembered: bytes = b""
    attachment: bytes = b""
    lease_until_ms: int = 0
    expires_in_ms: int | None = None
    attached: bool = False
    """Whether a socket is attached and its lease runs; set by `page` and `inspect` only."""


@value
class Draft:
    """A session to make: its first body, and the request that made it, if one did."""

    origin: Origin
    generation: bytes
    body: bytes
    entry: bytes = b""
    attachment: bytes = b""


@value
class Commit:
    """One step or reset to commit.

    `entry` is the remembered request, `expected` the generation decided on, `generation` the
    one drawn for this commit. An empty `attachment` asks for no fence; with one, `renews` says
    whether its lease is to be renewed too.
    """

    entry: bytes
    expected: bytes
    generation: bytes
    body: bytes
    attachment: bytes = b""
    renews: bool = True


@value
class Outcome:
    """A store's answer: a word, with the record where the word needs one.

    REPLAYED, CONFLICT and STALE carry the record as it stands; FULL carries `active`.
    """

    word: Word
    record: Record | None = None
    active: int = 0


COMMITTED = Outcome(Word.COMMITTED)
"""What nearly every commit comes to; there is one, and it is known by identity."""


@value
class Page:
    """Some sessions, and the cursor that goes on after them (None at the end).

    A record that this release cannot read is listed as None.
    """

    sessions: list[tuple[str, Record | None]]
    next_cursor: str | None


@value
class Spoken:
    """What a worker said of itself last, in its own format, and how long ago."""

    worker: str
    age_ms: int
    word: bytes


@value
class Node:
    """A server that sessions live on, by host and port; what it did not say of itself is None.

    `role` is primary or replica. `max_memory_bytes` is 0 where it has no limit, and `fsync` when its file is
    written through (always, everysec, no), where it keeps one (`aof`).
    """

    name: str
    role: str
    up: bool
    version: str | None = None
    used_memory_bytes: int | None = None
    max_memory_bytes: int | None = None
    clients: int | None = None
    commands_per_s: int | None = None
    aof: bool | None = None
    fsync: str | None = None


class StoreUnavailable(Exception):
    """The store gave no answer. `unknown`: it may have carried the request out all the same."""

    def __init__(self, reason: str, *, unknown: bool) -> None:
        super().__init__(reason)
        self.unknown = unknown


class StoreFull(StoreUnavailable):
    """The store has no room for this; what makes room, and what reads, goes on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, unknown=False)


class UnreadableRecord(Exception):
    """The record's layout is a newer release's; nothing was read or changed."""


Said = Outcome | StoreUnavailable | UnreadableRecord
"""What became of a commit."""


class InvalidCursor(ValueError):
    """The cursor was not made by `page`."""


class SessionStore(Protocol):
    """Sessions, keyed by id. Every verb may raise StoreUnavailable or UnreadableRecord."""

    async def load(self, session_id: str) -> Record | None:
        """The record, its TTL renewed; None where there is none."""

    async def inspect(self, session_id: str) -> Record | None:
        """The record with `expires_in_ms` and `attached`; renews nothing."""

    async def make(self, session_id: str, draft: Draft) -> Outcome:
        """Take a place in the pool and create the record.

        MADE; or FULL; or, where the session exists: REPLAYED or CONFLICT if it remembers the
        draft's request, else STALE. A resend that finds its own work answers MADE or REPLAYED.
        """

    async def commit(self, session_id: str, commit: Commit) -> Outcome:
        """Swap body and generation, remember the request, renew lease and TTL, in one stroke.

        Decided in this order: GONE, SUPERSEDED, REPLAYED or CONFLICT, STALE, COMMITTED.
        """

    def commit_soon(self, session_id: str, commit: Commit, told: Callable[[Said], None]) -> None:
        """`commit` without a coroutine: `told` is called once with its outcome or what it would raise, maybe at once.

        Nothing that `told` raises is caught. Raises StoreUnavailable itself where it takes nothing.
        """

    async def attach(self, session_id: str, attachment: bytes, *, unless_owned: bool = False) -> Record | None:
        """Make this attachment the session's; the older one is superseded from here on.

        With `unless_owned` another attachment whose lease still runs stays, and nothing is
        changed: the record's `attachment` tells whose the session is. None where there is none.
        """

    async def detach(self, session_id: str, attachment: bytes) -> bool:
        """Give the session up if the attachment is still its own, and whether it was."""

    async def renew(self, leases: list[tuple[str, bytes]]) -> list[Word | None]:
        """Renew lease and TTL of each (session id, attachment): RENEWED, SUPERSEDED or GONE.

        None where the store gave no answer or could not read the record; the others are
        renewed all the same. Raises nothing.
        """

    async def end(self, session_id: str, attachment: bytes = b"") -> bool:
        """End the session and free its place; with an attachment only while it is its own."""

    async def page(self, cursor: str | None, limit: int) -> Page:
        """Up to `limit` sessions after the cursor; one that stays is listed at least once.

        Raises InvalidCursor.
        """

    async def count(self) -> int:
        """How many sessions the pool has; one that ended unnoticed may still be among them."""

    async def sweep(self) -> int:
        """Examine doubtful places; the number of places freed."""

    async def keep(self) -> None:
        """Renew the pool's own keys; called while sessions are in use."""

    async def ping(self) -> None:
        """Return if the store takes writes."""

    async def announce(self, worker: str, word: bytes) -> None:
        """Keep a worker's word about itself in place of its last, for `WORD_MS`; also where the store is full."""

    async def depart(self, worker: str) -> None:
        """Forget a worker; one that is not known is no error."""

    async def roll(self) -> list[Spoken]:
        """What each worker said of itself last, in no order."""

    async def nodes(self) -> list[Node]:
        """The servers that sessions live on, those that give no answer as not `up`; raises nothing."""

    async def close(self) -> None:
        """Give up connections."""
