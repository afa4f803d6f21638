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

from metagame.core.remembered import HASH_BYTES, REMEMBERED

from .base import LEASE_MS, Commit, Draft, InvalidCursor, Origin, Outcome, Page, Record, Word
from .contact import Contact

_GONE = Outcome(Word.GONE)
_SUPERSEDED = Outcome(Word.SUPERSEDED)
_COMMITTED = Outcome(Word.COMMITTED)
_MADE = Outcome(Word.MADE)


class MemoryStore:
    """A `SessionStore` in a dict; `clock` counts seconds and never goes back."""

    def __init__(
        self,
        *,
        max_sessions: int,
        ttl_ms: int,
        lease_ms: int = LEASE_MS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_sessions = max_sessions
        self._ttl_ms = ttl_ms
        self._lease_ms = lease_ms
        self._clock = clock
        self._contact = Contact(lease_ms=lease_ms, clock=clock)
        self._records: dict[str, Record] = {}
        self._expires_at_ms: dict[str, int] = {}

    async def load(self, session_id: str) -> Record | None:
        """The record, its TTL renewed; None where there is none."""
        now_ms = self._now_ms()
        record = self._alive(session_id, now_ms)
        if record is not None:
            self._expires_at_ms[session_id] = now_ms + self._ttl_ms
        return record

    async def inspect(self, session_id: str) -> Record | None:
        """The record with `expires_in_ms` and `attached`; renews nothing."""
        now_ms = self._now_ms()
        record = self._alive(session_id, now_ms)
        return None if record is None else self._shown(session_id, record, now_ms)

    async def make(self, session_id: str, draft: Draft) -> Outcome:
        """Create the record if there is room; see `SessionStore.make`."""
        now_ms = self._now_ms()
        record = self._alive(session_id, now_ms)
        if record is not None:
            self._expires_at_ms[session_id] = now_ms + self._ttl_ms
            word = _remembered(record, draft.entry)
            if word is None:
                word = Word.MADE if record.generation == draft.generation else Word.STALE
            return _MADE if word is Word.MADE else Outcome(word, record)
        if len(self._records) >= self._max_sessions:
            await self.sweep()
        if len(self._records) >= self._max_sessions:
            return Outcome(Word.FULL, active=len(self._records))
        leased = draft.attachment or draft.origin is Origin.ANONYMOUS
        self._records[session_id] = Record(
            draft.origin,
            draft.generation,
            draft.body,
            (draft.entry,) if draft.entry else (),
            draft.attachment,
            now_ms + self._lease_ms if leased else 0,
        )
        self._expires_at_ms[session_id] = now_ms + self._ttl_ms
        return _MADE

    async def commit(self, session_id: str, commit: Commit) -> Outcome:
        """Swap body and generation; see `SessionStore.commit`."""
        now_ms = self._now_ms()
        record = self._alive(session_id, now_ms)
        if record is None:
            return _GONE
        if commit.attachment and commit.attachment != record.attachment:
            return _SUPERSEDED
        self._expires_at_ms[session_id] = now_ms + self._ttl_ms
        word = _remembered(record, commit.entry)
        if word is None and record.generation != commit.expected:
            word = Word.STALE
        if word is not None:
            return Outcome(word, record)
        remembered = record.remembered
        self._records[session_id] = Record(
            record.origin,
            commit.generation,
            commit.body,
            (commit.entry, *remembered[: REMEMBERED - 1]) if commit.entry else remembered,
            record.attachment,
            now_ms + self._lease_ms if commit.attachment else record.lease_until_ms,
        )
        return _COMMITTED

    async def attach(self, session_id: str, attachment: bytes, *, unless_owned: bool = False) -> Record | None:
        """Make this attachment the session's; see `SessionStore.attach`."""
        now_ms = self._now_ms()
        record = self._alive(session_id, now_ms)
        if record is None:
            return None
        if unless_owned and record.attachment not in {b"", attachment} and record.lease_until_ms > now_ms:
            return record
        record = replace(record, attachment=attachment, lease_until_ms=now_ms + self._lease_ms)
        self._records[session_id] = record
        self._expires_at_ms[session_id] = now_ms + self._ttl_ms
        return record

    async def detach(self, session_id: str, attachment: bytes) -> None:
        """Give the session up if the attachment is still its own."""
        now_ms = self._now_ms()
        record = self._alive(session_id, now_ms)
        if record is not None and attachment and record.attachment == attachment:
            self._records[session_id] = replace(record, attachment=b"", lease_until_ms=0)
            self._expires_at_ms[session_id] = now_ms + self._ttl_ms

    async def renew(self, leases: list[tuple[str, bytes]]) -> list[Word | None]:
        """Renew lease and TTL of each (session id, attachment): RENEWED, SUPERSEDED or GONE."""
        return [self._renew(session_id, attachment) for session_id, attachment in leases]

    async def end(self, session_id: str, attachment: bytes = b"") -> bool:
        """End the session; with an attachment only while it is its own."""
        record = self._alive(session_id, self._now_ms())
        if record is None or (attachment and record.attachment != attachment):
            return False
        self._drop(session_id)
        return True

    async def page(self, cursor: str | None, limit: int) -> Page:
        """Up to `limit` sessions after the cursor, by id; raises InvalidCursor."""
        now_ms = self._now_ms()
        ids = sorted(self._records)
        start = 0 if cursor is None else bisect_right(ids, _cursor_id(cursor))
        found = ids[start : start + limit]
        more = start + limit < len(ids)
        sessions: list[tuple[str, Record | None]] = [
            (session_id, self._shown(session_id, record, now_ms))
            for session_id in found
            if (record := self._alive(session_id, now_ms)) is not None
        ]
        return Page(sessions, base64.urlsafe_b64encode(found[-1].encode()).decode() if more and found else None)

    async def sweep(self) -> int:
        """Drop what has expired, and anonymous sessions whose lease has lapsed; how many."""
        now_ms = self._now_ms()
        self._contact.seen()
        before = len(self._records)
        for session_id in [name for name, at_ms in self._expires_at_ms.items() if at_ms <= now_ms]:
            self._drop(session_id)
        if self._contact.steady:
            for session_id in [name for name, record in self._records.items() if _abandoned(record, now_ms)]:
                self._drop(session_id)
        return before - len(self._records)

    async def keep(self) -> None:
        """Nothing to keep: the pool is this object."""

    async def ping(self) -> None:
        """Answer."""

    async def close(self) -> None:
        """Nothing to give up."""

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _alive(self, session_id: str, now_ms: int) -> Record | None:
        record = self._records.get(session_id)
        if record is not None and self._expires_at_ms[session_id] <= now_ms:
            self._drop(session_id)
            return None
        return record

    def _drop(self, session_id: str) -> None:
        del self._records[session_id], self._expires_at_ms[session_id]

    def _renew(self, session_id: str, attachment: bytes) -> Word:
        now_ms = self._now_ms()
        record = self._alive(session_id, now_ms)
        if record is None:
            return Word.GONE
        if not attachment or record.attachment != attachment:
            return Word.SUPERSEDED
        self._records[session_id] = replace(record, lease_until_ms=now_ms + self._lease_ms)
        self._expires_at_ms[session_id] = now_ms + self._ttl_ms
        return Word.RENEWED

    def _shown(self, session_id: str, record: Record, now_ms: int) -> Record:
        return replace(
            record,
            expires_in_ms=self._expires_at_ms[session_id] - now_ms,
            attached=bool(record.attachment) and record.lease_until_ms > now_ms,
        )


def _remembered(record: Record, entry: bytes) -> Word | None:
    """REPLAYED or CONFLICT where the record remembers the request, else None."""
    if entry:
        id_hash = entry[:HASH_BYTES]
        for known in record.remembered:
            if known.startswith(id_hash):
                same = known[HASH_BYTES : 2 * HASH_BYTES] == entry[HASH_BYTES : 2 * HASH_BYTES]
                return Word.REPLAYED if same else Word.CONFLICT
    return None


def _abandoned(record: Record, now_ms: int) -> bool:
    return record.origin is Origin.ANONYMOUS and record.lease_until_ms <= now_ms


def _cursor_id(cursor: str) -> str:
    try:
        return base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeError) as wrong:
        message = "not a cursor of this list"
        raise InvalidCursor(message) from wrong
