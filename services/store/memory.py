"""Sessions in this process's memory: one worker, nothing survives it.

One thread and no await inside a verb, so every verb is atomic. A session's place in the pool
is its record. Expiry is looked at on access, and by `sweep` for sessions nobody asks for.
"""

from __future__ import annotations

import base64
import binascii
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

from metagame.core.remembered import HASH_BYTES, KEY_BYTES, find, remember

from ..meter import Meter
from ..meter.layout import ENDED
from .base import (
    COMMITTED,
    LEASE_MS,
    WORD_MS,
    Commit,
    Draft,
    InvalidCursor,
    Node,
    Origin,
    Outcome,
    Page,
    Record,
    Said,
    Spoken,
    Word,
)
from .contact import Contact

_GONE = Outcome(Word.GONE)
_SUPERSEDED = Outcome(Word.SUPERSEDED)
_MADE = Outcome(Word.MADE)


class _Kept:
    """A session, which a commit changes where it stands; a record is made of it for who asks."""

    __slots__ = ("attachment", "body", "expires_at_ms", "generation", "lease_until_ms", "origin", "remembered")

    def __init__(self, draft: Draft, lease_until_ms: int, expires_at_ms: int) -> None:
        self.origin = draft.origin
        self.generation = draft.generation
        self.body = draft.body
        self.remembered = draft.entry
        self.attachment = draft.attachment
        self.lease_until_ms = lease_until_ms
        self.expires_at_ms = expires_at_ms

    def record(self) -> Record:
        """The session as it stands."""
        return Record(self.origin, self.generation, self.body, self.remembered, self.attachment, self.lease_until_ms)

    def shown(self, now_ms: int) -> Record:
        """The record with `expires_in_ms` and `attached`."""
        return replace(
            self.record(),
            expires_in_ms=self.expires_at_ms - now_ms,
            attached=bool(self.attachment) and self.lease_until_ms > now_ms,
        )

    def recalls(self, entry: bytes) -> Word | None:
        """REPLAYED or CONFLICT where the session remembers the request, else None."""
        at = find(self.remembered, entry[:HASH_BYTES]) if entry else -1
        if at < 0:
            return None
        return Word.REPLAYED if self.remembered.startswith(entry[:KEY_BYTES], at) else Word.CONFLICT


class MemoryStore:
    """A `SessionStore` in a dict; `clock` counts seconds and never goes back."""

    def __init__(  # noqa: PLR0913 - settings, by keyword
        self,
        *,
        max_sessions: int,
        ttl_ms: int,
        lease_ms: int = LEASE_MS,
        word_ms: int = WORD_MS,
        clock: Callable[[], float] = time.monotonic,
        meter: Meter | None = None,
    ) -> None:
        self._meter = meter or Meter()
        self._max_sessions = max_sessions
        self._ttl_ms = ttl_ms
        self._lease_ms = lease_ms
        self._clock = clock
        self._contact = Contact(lease_ms=lease_ms, clock=clock)
        self._sessions: dict[str, _Kept] = {}
        self._word_ms = word_ms
        self._words: dict[str, tuple[int, bytes]] = {}
        """What workers said of themselves, and when."""
        self._full_until_ms = 0
        """Until when a sweep would find nothing: a full pool is asked by many, and looks through all once."""

    async def load(self, session_id: str) -> Record | None:
        """The record, its TTL renewed; None where there is none."""
        now_ms = self._now_ms()
        kept = self._alive(session_id, now_ms)
        if kept is None:
            return None
        kept.expires_at_ms = now_ms + self._ttl_ms
        return kept.record()

    async def inspect(self, session_id: str) -> Record | None:
        """The record with `expires_in_ms` and `attached`; renews nothing."""
        now_ms = self._now_ms()
        kept = self._alive(session_id, now_ms)
        return None if kept is None else kept.shown(now_ms)

    async def make(self, session_id: str, draft: Draft) -> Outcome:
        """Create the record if there is room; see `SessionStore.make`."""
        now_ms = self._now_ms()
        kept = self._alive(session_id, now_ms)
        if kept is not None:
            kept.expires_at_ms = now_ms + self._ttl_ms
            word = kept.recalls(draft.entry)
            if word is None and kept.generation == draft.generation:
                return _MADE
            return Outcome(word or Word.STALE, kept.record())
        if len(self._sessions) >= self._max_sessions and now_ms >= self._full_until_ms:
            await self.sweep()
        if len(self._sessions) >= self._max_sessions:
            return Outcome(Word.FULL, active=len(self._sessions))
        leased = draft.attachment or draft.origin is Origin.ANONYMOUS
        lease_until_ms = now_ms + self._lease_ms if leased else 0
        self._sessions[session_id] = _Kept(draft, lease_until_ms, now_ms + self._ttl_ms)
        self._full_until_ms = 0
        return _MADE

    async def commit(self, session_id: str, commit: Commit) -> Outcome:
        """Swap body and generation; see `SessionStore.commit`."""
        return self._commit(session_id, commit)

    def commit_soon(self, session_id: str, commit: Commit, told: Callable[[Said], None]) -> None:
        """`commit` at once; see `SessionStore.commit_soon`."""
        told(self._commit(session_id, commit))

    def _commit(self, session_id: str, commit: Commit) -> Outcome:
        now_ms = int(self._clock() * 1000)
        kept = self._sessions.get(session_id)
        if kept is None or kept.expires_at_ms <= now_ms:
            self._alive(session_id, now_ms)
            return _GONE
        attachment = commit.attachment
        if attachment and attachment != kept.attachment:
            return _SUPERSEDED
        kept.expires_at_ms = now_ms + self._ttl_ms
        maybe = kept.remembered.find(commit.entry[:HASH_BYTES]) >= 0  # nearly never: spared is the closer look
        word = kept.recalls(commit.entry) if maybe else None
        if word is None and kept.generation != commit.expected:
            word = Word.STALE
        if word is not None:
            return Outcome(word, kept.record())
        kept.generation = commit.generation
        kept.body = commit.body
        if commit.entry:
            kept.remembered = remember(commit.entry, kept.remembered)
        if attachment and commit.renews:
            kept.lease_until_ms = now_ms + self._lease_ms
        return COMMITTED

    async def attach(self, session_id: str, attachment: bytes, *, unless_owned: bool = False) -> Record | None:
        """Make this attachment the session's; see `SessionStore.attach`."""
        now_ms = self._now_ms()
        kept = self._alive(session_id, now_ms)
        if kept is None:
            return None
        if unless_owned and kept.attachment not in {b"", attachment} and kept.lease_until_ms > now_ms:
            return kept.record()
        kept.attachment = attachment
        kept.lease_until_ms = now_ms + self._lease_ms
        kept.expires_at_ms = now_ms + self._ttl_ms
        return kept.record()

    async def detach(self, session_id: str, attachment: bytes) -> bool:
        """Give the session up if the attachment is still its own, and whether it was."""
        now_ms = self._now_ms()
        kept = self._alive(session_id, now_ms)
        if kept is None or not attachment or kept.attachment != attachment:
            return False
        kept.attachment = b""
        kept.lease_until_ms = 0
        kept.expires_at_ms = now_ms + self._ttl_ms
        self._full_until_ms = 0
        return True

    async def renew(self, leases: list[tuple[str, bytes]]) -> list[Word | None]:
        """Renew lease and TTL of each (session id, attachment): RENEWED, SUPERSEDED or GONE."""
        return [self._renew(session_id, attachment) for session_id, attachment in leases]

    async def end(self, session_id: str, attachment: bytes = b"") -> bool:
        """End the session; with an attachment only while it is its own."""
        kept = self._alive(session_id, self._now_ms())
        if kept is None or (attachment and kept.attachment != attachment):
            return False
        del self._sessions[session_id]
        return True

    async def page(self, cursor: str | None, limit: int) -> Page:
        """Up to `limit` sessions after the cursor, by id; raises InvalidCursor."""
        now_ms = self._now_ms()
        ids = sorted(self._sessions)
        start = 0 if cursor is None else bisect_right(ids, _cursor_id(cursor))
        found = ids[start : start + limit]
        more = start + limit < len(ids)
        sessions: list[tuple[str, Record | None]] = [
            (session_id, kept.shown(now_ms))
            for session_id in found
            if (kept := self._alive(session_id, now_ms)) is not None
        ]
        return Page(sessions, base64.urlsafe_b64encode(found[-1].encode()).decode() if more and found else None)

    async def count(self) -> int:
        """How many sessions there are, expired ones that nobody looked at since among them."""
        return len(self._sessions)

    async def sweep(self) -> int:
        """Drop what has expired, and anonymous sessions whose lease has lapsed; how many."""
        now_ms = self._now_ms()
        self._contact.seen()
        before = len(self._sessions)
        steady = self._contact.steady
        ends_ms = [now_ms + self._ttl_ms]
        for session_id, kept in list(self._sessions.items()):
            end_ms = kept.expires_at_ms
            if kept.origin is Origin.ANONYMOUS:
                end_ms = min(end_ms, kept.lease_until_ms if steady else max(now_ms + 1, kept.lease_until_ms))
            if end_ms <= now_ms:
                del self._sessions[session_id]
            else:
                ends_ms.append(end_ms)
        self._full_until_ms = min(ends_ms)
        freed = before - len(self._sessions)
        self._meter.count(ENDED, "expired", by=freed)
        return freed

    async def keep(self) -> None:
        """Nothing to keep: the pool is this object."""

    async def ping(self) -> None:
        """Answer."""

    async def announce(self, worker: str, word: bytes) -> None:
        """Keep a worker's word about itself in place of its last."""
        self._words[worker] = (self._now_ms(), word)

    async def depart(self, worker: str) -> None:
        """Forget a worker."""
        self._words.pop(worker, None)

    async def roll(self) -> list[Spoken]:
        """What each worker said of itself last."""
        now_ms = self._now_ms()
        self._words = {worker: said for worker, said in self._words.items() if now_ms - said[0] < self._word_ms}
        return [Spoken(worker, now_ms - said_ms, word) for worker, (said_ms, word) in self._words.items()]

    async def nodes(self) -> list[Node]:
        """None: the pool is this object."""
        return []

    async def close(self) -> None:
        """Nothing to give up."""

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _alive(self, session_id: str, now_ms: int) -> _Kept | None:
        kept = self._sessions.get(session_id)
        if kept is not None and kept.expires_at_ms <= now_ms:
            del self._sessions[session_id]
            self._meter.count(ENDED, "expired")
            return None
        return kept

    def _renew(self, session_id: str, attachment: bytes) -> Word:
        now_ms = self._now_ms()
        kept = self._alive(session_id, now_ms)
        if kept is None:
            return Word.GONE
        if not attachment or kept.attachment != attachment:
            return Word.SUPERSEDED
        kept.lease_until_ms = now_ms + self._lease_ms
        kept.expires_at_ms = now_ms + self._ttl_ms
        return Word.RENEWED


def _cursor_id(cursor: str) -> str:
    try:
        return base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeError) as wrong:
        message = "not a cursor of this list"
        raise InvalidCursor(message) from wrong
