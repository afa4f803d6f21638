"""Sessions in Redis, for any number of workers: one Redis, one named by Sentinel, or a cluster.

What changes a session is one script on its key, except that what takes or frees a place spans two:
there each step is fenced, and a crash between two of them is healed by examination (places.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from redis.asyncio import Redis, RedisCluster

from ..meter import Meter
from . import layout, scripts
from .base import (
    LEASE_MS,
    RESERVED_MS,
    WORD_MS,
    Commit,
    Draft,
    Node,
    Outcome,
    Page,
    Record,
    Said,
    Spoken,
    StoreUnavailable,
    Word,
)
from .batch import Batcher
from .contact import Contact
from .keys import pulse_key, record_key
from .lanes import lanes_of
from .nodes import Nodes
from .places import Places
from .renewals import Renewals
from .replies import (
    Telling,
    check_readable,
    outcome_of,
    read_cursor,
    shown,
    shown_if_readable,
    unreadable,
    write_cursor,
)
from .request import Replicas
from .roll import Roll

TIMEOUT_S = 5.0
PULSE_MS = "60000"


class RedisStore:
    """A `SessionStore` on a redis-py client that answers in bytes.

    With `replicas` nothing counts as answered, a ping neither, before that many have what was written.
    Whatever is asked is answered or given up within `timeout_s`, on a slow Redis too.
    """

    def __init__(  # noqa: PLR0913 - settings, by keyword
        self,
        client: Redis | RedisCluster,
        *,
        max_sessions: int,
        ttl_ms: int,
        lease_ms: int = LEASE_MS,
        reserved_ms: int = RESERVED_MS,
        word_ms: int = WORD_MS,
        replicas: Replicas | None = None,
        timeout_s: float = TIMEOUT_S,
        prefix: str = "metagame",
        meter: Meter | None = None,
    ) -> None:
        meter = meter or Meter()
        self._prefix = prefix
        self._ttl_ms = str(ttl_ms)
        self._lease_ms = str(lease_ms)
        self._lanes = lanes_of(client)
        self._contact = Contact(lease_ms=lease_ms, clock=time.monotonic)
        self._batcher = Batcher(self._lanes, self._contact, timeout_s=timeout_s, replicas=replicas, meter=meter)
        self._places = Places(
            self._batcher,
            self._contact,
            max_sessions=max_sessions,
            ttl_ms=ttl_ms,
            reserved_ms=reserved_ms,
            prefix=prefix,
            meter=meter,
        )
        self._roll = Roll(self._batcher, kept_ms=word_ms, prefix=prefix)
        self._nodes = Nodes(client)

    async def load(self, session_id: str) -> Record | None:
        """The record, its TTL renewed; None where there is none."""
        key = record_key(self._prefix, session_id)
        raw = await self._batcher.send(scripts.Command(key, ("GETEX", key, "PX", self._ttl_ms)))
        return None if raw is None else layout.read(raw)

    async def inspect(self, session_id: str) -> Record | None:
        """The record with `expires_in_ms` and `attached`; renews nothing."""
        return shown(await self._batcher.send(scripts.inspect(record=record_key(self._prefix, session_id))))

    async def make(self, session_id: str, draft: Draft) -> Outcome:
        """Reserve a place, create the record, hold the place; see `SessionStore.make`."""
        while True:
            active = await self._places.reserve(session_id)
            if active is None:
                made = await self._create(session_id, draft, may_create="1")
                if made.word is not Word.MADE or await self._places.reserve(session_id) is None:
                    return made
                key = record_key(self._prefix, session_id)  # the place went while the record came
                await self._batcher.send(scripts.withdraw(record=key, generation=draft.generation))
                continue
            known = await self._create(session_id, draft, may_create="0")
            if known.word is not Word.GONE:
                return known
            if not await self._places.make_room():
                return Outcome(Word.FULL, active=active)

    async def commit(self, session_id: str, commit: Commit) -> Outcome:
        """Swap body and generation; see `SessionStore.commit`."""
        return outcome_of(await self._batcher.send(self._commit(session_id, commit)))

    def commit_soon(self, session_id: str, commit: Commit, told: Callable[[Said], None]) -> None:
        """`commit` without a coroutine; see `SessionStore.commit_soon`."""
        self._batcher.ask(self._commit(session_id, commit), Telling(told))

    async def attach(self, session_id: str, attachment: bytes, *, unless_owned: bool = False) -> Record | None:
        """Make this attachment the session's; see `SessionStore.attach`."""
        reply = await self._batcher.send(
            scripts.attach(
                record=record_key(self._prefix, session_id),
                attachment=attachment,
                unless_owned="1" if unless_owned else "0",
                ttl_ms=self._ttl_ms,
                lease_ms=self._lease_ms,
            )
        )
        check_readable(reply)
        return layout.read(reply[1]) if len(reply) == 2 else None

    async def detach(self, session_id: str, attachment: bytes) -> bool:
        """Give the session up if the attachment is still its own, and whether it was."""
        if not attachment:
            return False
        key = record_key(self._prefix, session_id)
        reply = await self._batcher.send(scripts.detach(record=key, attachment=attachment, ttl_ms=self._ttl_ms))
        check_readable(reply)
        return bool(reply[0] == b"detached")

    async def renew(self, leases: list[tuple[str, bytes]]) -> list[Word | None]:
        """Renew lease and TTL of each (session id, attachment); see `SessionStore.renew`."""
        renewals = Renewals(len(leases))
        for at, (session_id, attachment) in enumerate(leases):
            command = scripts.renew(
                record=record_key(self._prefix, session_id),
                attachment=attachment or b"none",
                ttl_ms=self._ttl_ms,
                lease_ms=self._lease_ms,
            )
            try:
                self._batcher.ask(command, renewals.receiver(at))
            except StoreUnavailable:  # too many wait
                renewals.note(at, None)
        return await renewals.words

    async def end(self, session_id: str, attachment: bytes = b"") -> bool:
        """Mark the place doubtful, delete the record, free the place; see `SessionStore.end`."""
        key = record_key(self._prefix, session_id)
        if attachment and not await self._owns(key, attachment):
            return False
        score = await self._places.mark(session_id)
        reply = await self._batcher.send(scripts.end(record=key, attachment=attachment))
        check_readable(reply)
        ended = bool(reply[0] == b"ended")
        if ended or (reply[0] == b"gone" and score is not None):
            await self._vacate(session_id, key, score)
        elif score is not None:  # superseded between the look and the stroke
            await self._places.unmark(session_id, score)
        return ended

    async def page(self, cursor: str | None, limit: int) -> Page:
        """Up to `limit` places after the cursor, those with a record; see `SessionStore.page`."""
        score, member = ("", "") if cursor is None else read_cursor(cursor)
        entries = await self._places.page(score, member, limit)
        replies = await asyncio.gather(
            *[self._batcher.send(scripts.inspect(record=record_key(self._prefix, name))) for name, _ in entries]
        )
        sessions = [
            (name, shown_if_readable(reply))
            for (name, _), reply in zip(entries, replies, strict=True)
            if reply[0] != b"gone"
        ]
        return Page(sessions, write_cursor(*entries[-1]) if entries and len(entries) == limit else None)

    async def count(self) -> int:
        """How many places are taken."""
        return await self._places.count()

    async def sweep(self) -> int:
        """Examine doubtful places; the number of places freed."""
        return await self._places.sweep()

    async def keep(self) -> None:
        """Renew the TTL of the places."""
        await self._places.keep()

    async def ping(self) -> None:
        """Return if the Redis that has the places takes writes, and enough replicas have them.

        A PING would be answered by a replica, too, by a primary whose replicas are gone, by one that waits
        for them (Redis 8 lets WAIT pass where the connection has written nothing), and by one that is full.
        """
        key = pulse_key(self._prefix)
        await self._batcher.send(scripts.Command(key, ("SET", key, "", "PX", PULSE_MS)))

    async def announce(self, worker: str, word: bytes) -> None:
        """Keep a worker's word about itself in place of its last."""
        await self._roll.announce(worker, word)

    async def depart(self, worker: str) -> None:
        """Forget a worker."""
        await self._roll.depart(worker)

    async def roll(self) -> list[Spoken]:
        """What each worker said of itself last."""
        return await self._roll.read()

    async def nodes(self) -> list[Node]:
        """The Redis servers; see `SessionStore.nodes`."""
        return await self._nodes.look()

    async def close(self) -> None:
        """Give up connections; what waits fails."""
        await self._batcher.close()
        await self._lanes.close()

    def _commit(self, session_id: str, commit: Commit) -> scripts.Command:
        return scripts.commit(
            record=record_key(self._prefix, session_id),
            attachment=commit.attachment,
            entry=commit.entry,
            expected=commit.expected,
            generation=commit.generation,
            body=commit.body,
            ttl_ms=self._ttl_ms,
            lease_ms=self._lease_ms if commit.renews else "",
        )

    async def _create(self, session_id: str, draft: Draft, *, may_create: str) -> Outcome:
        reply = await self._batcher.send(
            scripts.create(
                record=record_key(self._prefix, session_id),
                may_create=may_create,
                origin=draft.origin.value,
                attachment=draft.attachment,
                generation=draft.generation,
                entry=draft.entry,
                body=draft.body,
                ttl_ms=self._ttl_ms,
                lease_ms=self._lease_ms,
            )
        )
        return outcome_of(reply)

    async def _vacate(self, session_id: str, key: str, score: bytes | None) -> None:
        """Free the place of a record that is gone, unless somebody makes it anew.

        The mark is gone where a `make` that found the old record has held the place meanwhile.
        """
        while score is None or not await self._places.free(session_id, score):
            score = await self._places.mark(session_id)
            if score is None:
                return
            if await self._batcher.send(scripts.Command(key, ("EXISTS", key))):
                await self._places.unmark(session_id, score)
                return

    async def _owns(self, key: str, attachment: bytes) -> bool:
        """Whether the attachment is the record's; so that a mere look lowers no score."""
        head = await self._batcher.send(scripts.Command(key, ("GETRANGE", key, "0", str(layout.HEAD_BYTES - 1))))
        if head and head[:1] != layout.LAYOUT:
            raise unreadable()
        return bool(head[2:18] == attachment)
