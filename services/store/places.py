"""Places in the pool, in Redis: who takes one, and when one is free again.

A sorted set of session ids; the score is the Redis time, in microseconds, after which the
entry is doubtful. A score alone never frees a place: a doubtful entry is examined, and goes
only if its record is gone. A score also is a fence: whoever examines an entry changes it only
while the score is the one examined, and whoever takes or holds a place raises a score that
has come. So `make` reserves before it creates, and holds the place again after: if an `end`
or an examination of the same id took the place in between, `make` finds out and no record
is left without a place.

Odd scores are marks of an `end` that may be about to delete the record. While a mark is
younger than a reservation, its entry is left alone though the record is seen alive: the `end`
would find its fence gone. An older mark is of an `end` that died; its entry is put beyond
doubt for as long as a reservation only, in case that `end` was merely slow.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..meter import Meter
from ..meter.layout import ENDED
from . import layout, scripts
from .batch import Batcher
from .contact import Contact
from .keys import places_key, record_key

EXAMINED_AT_ONCE = 64
SWEPT_BATCHES = 64
"""Bounds one sweep: ten thousand anonymous sessions are looked at once in a lease."""


class Places:
    """The pool's places."""

    def __init__(  # noqa: PLR0913 - settings, by keyword
        self,
        batcher: Batcher,
        contact: Contact,
        *,
        max_sessions: int,
        ttl_ms: int,
        reserved_ms: int,
        prefix: str,
        meter: Meter,
    ) -> None:
        self._meter = meter
        self._send = batcher.send
        self._contact = contact
        self._prefix = prefix
        self._key = places_key(prefix)
        self._max_sessions = str(max_sessions)
        self._session_ttl_ms = ttl_ms
        self._reserved_us = str(reserved_ms * 1000)
        self._ttl_ms = str(2 * ttl_ms + 60_000)

    async def reserve(self, session_id: str) -> int | None:
        """Take a place or hold the one there is: None. Else the pool is full: the number of places taken."""
        word, active = await self._send(
            scripts.reserve(
                places=self._key,
                member=session_id,
                max_sessions=self._max_sessions,
                reserved_us=self._reserved_us,
                places_ttl_ms=self._ttl_ms,
            )
        )
        return int(active) if word == b"full" else None

    async def mark(self, session_id: str) -> bytes | None:
        """Make the place doubtful, before its record is deleted; the score that `free` needs."""
        reply = await self._send(scripts.mark(places=self._key, member=session_id, places_ttl_ms=self._ttl_ms))
        return reply[1] if reply[0] == b"marked" else None

    async def free(self, session_id: str | bytes, score: bytes) -> bool:
        """Remove the place if its score is still this one."""
        command = scripts.free(places=self._key, member=session_id, score=score, places_ttl_ms=self._ttl_ms)
        return bool((await self._send(command))[0] == b"freed")

    async def unmark(self, session_id: str, score: bytes) -> None:
        """Put a marked place, whose record stays, beyond doubt for a while; if its score is still this one."""
        until_us = (int(score) + int(self._reserved_us)) // 2 * 2
        await self._send(self._refresh(session_id, score, until_us))

    async def make_room(self) -> bool:
        """Examine doubtful places until there is room; whether there is."""
        spared = 0
        while True:
            active, freed, examined, kept = await self._examine(spared)
            if freed or active < int(self._max_sessions):
                return True
            if not examined:
                return False
            spared += kept

    async def sweep(self) -> int:
        """Examine all doubtful places, up to a bound; the number freed."""
        total = spared = 0
        for _ in range(SWEPT_BATCHES):
            _, freed, examined, kept = await self._examine(spared)
            total += freed
            spared += kept
            if examined < EXAMINED_AT_ONCE:
                break
        return total

    async def count(self) -> int:
        """How many are taken."""
        return int(await self._send(scripts.Command(self._key, ("ZCARD", self._key))))

    async def keep(self) -> None:
        """Renew the TTL of the set."""
        await self._send(scripts.Command(self._key, ("PEXPIRE", self._key, self._ttl_ms)))

    async def page(self, score: str, member: str, limit: int) -> list[tuple[str, str]]:
        """Up to `limit` (session id, score) after the one given, from the start where `score` is empty."""
        reply = await self._send(scripts.page(places=self._key, score=score, member=member, limit=str(limit)))
        return [(name.decode(), at.decode()) for name, at in zip(reply[1::2], reply[2::2], strict=True)]

    async def _examine(self, skip: int) -> tuple[int, int, int, int]:
        """One batch of doubtful places: how many are taken in all, were freed, examined, left doubtful."""
        reply = await self._send(
            scripts.doubtful(places=self._key, skip=str(skip), limit=str(EXAMINED_AT_ONCE)),
        )
        active, now_us = int(reply[1]), int(reply[2])
        entries = list(zip(reply[3::2], reply[4::2], strict=True))
        looks = []
        for name, _ in entries:
            key = record_key(self._prefix, name.decode())
            looks.append(self._send(scripts.Command(key, ("GETRANGE", key, "0", str(layout.HEAD_BYTES - 1)))))
            looks.append(self._send(scripts.Command(key, ("PTTL", key))))
        found = await asyncio.gather(*looks)
        outcomes = await self._settle(entries, found, now_us)
        freed = outcomes.count(b"freed")
        self._meter.count(ENDED, "expired", by=freed)
        return active, freed, len(entries), outcomes.count(None)

    async def _settle(self, entries: list[tuple[bytes, bytes]], found: list[Any], now_us: int) -> list[bytes | None]:
        """Free or refresh each examined place; the script's word each, None where it was left alone."""
        heads = found[::2]
        gone = [head == b"" or left_ms == -2 for head, left_ms in zip(heads, found[1::2], strict=True)]
        lapsed = [not away and layout.abandoned(head, now_us // 1000) for away, head in zip(gone, heads, strict=True)]
        if self._contact.steady:
            await self._reap([at for at, is_lapsed in enumerate(lapsed) if is_lapsed], entries, heads, gone)
        settled: list[Any] = []
        for at, (name, score) in enumerate(entries):
            left_ms = found[2 * at + 1]
            if gone[at]:
                command = scripts.free(places=self._key, member=name, score=score, places_ttl_ms=self._ttl_ms)
            elif lapsed[at] or (_marked(score) and now_us - int(score) < int(self._reserved_us)):
                continue
            else:
                command = self._refresh(name, score, self._doubtful_us(heads[at], left_ms, now_us, score))
            settled.append(self._send(command))
        words: list[bytes | None] = [reply[0] for reply in await asyncio.gather(*settled)]
        return words + [None] * (len(entries) - len(words))

    async def _reap(
        self, lapsed: list[int], entries: list[tuple[bytes, bytes]], heads: list[bytes], gone: list[bool]
    ) -> None:
        """End the anonymous sessions at these positions, and note which are gone."""
        commands = [
            scripts.reap(
                record=record_key(self._prefix, entries[at][0].decode()),
                attachment=heads[at][2:18],
                lease_until=heads[at][18:31],
            )
            for at in lapsed
        ]
        replies = await asyncio.gather(*[self._send(command) for command in commands])
        for at, reply in zip(lapsed, replies, strict=True):
            gone[at] = reply[0] != b"changed"

    def _refresh(self, name: str | bytes, score: bytes, doubtful_us: int) -> scripts.Command:
        return scripts.refresh(
            places=self._key, member=name, score=score, doubtful_us=str(doubtful_us), places_ttl_ms=self._ttl_ms
        )

    def _doubtful_us(self, head: bytes, left_ms: int, now_us: int, score: bytes) -> int:
        """When the record may be gone: a marked one soon, an anonymous one's lease, any other's TTL. Even."""
        if _marked(score):
            return (now_us + int(self._reserved_us)) // 2 * 2
        if head[:2] == b"1a":
            return int(head[18:31]) * 1000
        return (now_us + (left_ms if left_ms >= 0 else self._session_ttl_ms) * 1000) // 2 * 2


def _marked(score: bytes) -> bool:
    return int(score) % 2 == 1
