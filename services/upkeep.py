"""What a worker does besides answering: renew leases, sweep, keep the pool's keys, watch the store, tell of itself.

Nothing here is needed for correctness of a step. A worker that stops doing it loses its leases,
and the others clean up after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from time import monotonic

import structlog

from .attachment import Attachment, taken_over
from .engine import Engine
from .meter.layout import REDIS_AWAY, REDIS_FULL
from .records import Held
from .store.base import StoreFull, StoreUnavailable, UnreadableRecord, Word
from .vitals import Pulse

RENEW_S = 8.0
SWEEP_S = 4.0
WATCH_S = 1.0
ANNOUNCE_S = 2.0
DEPART_S = 0.5
"""How long a worker that leaves waits for the store to forget it; else it is silent, and then forgotten."""
BATCH = 256
AWAY, FULL, BACK = (
    "the session store cannot be reached",
    "the session store is full",
    "the session store is back",
)
REMEDIES = {
    AWAY: "check METAGAME_REDIS_URL, that Redis runs and that its replicas do; requests are answered 503 meanwhile",
    FULL: "raise Redis' maxmemory, or end sessions; steps and new sessions are answered 503, the rest goes on",
}

log = structlog.get_logger()
_jitter = random.Random()  # noqa: S311 - spreads renewals; the global generator stays untouched


class Upkeep:
    """The background work of one worker; `start` it in the event loop, `stop` it before the store closes."""

    def __init__(self, engine: Engine, *, session_ttl_s: float, pulse: Pulse | None = None) -> None:
        self._engine = engine
        self._pulse = pulse
        self._says: asyncio.Task[None] | None = None
        self._renew_s = min(RENEW_S, session_ttl_s / 3)
        self._found = BACK
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; each kind of work has a task of its own, so that a slow one holds up no other."""
        self._tasks = [
            asyncio.create_task(self._every(self._renew_s / 8, self._renew)),
            asyncio.create_task(self._every(SWEEP_S, self._sweep)),
            asyncio.create_task(self._every(self._renew_s, self._keep)),
            asyncio.create_task(self._every(WATCH_S, self._watch)),
        ]
        if self._pulse is not None:
            self.announce_now()
            self._tasks.append(asyncio.create_task(self._every(ANNOUNCE_S, self._announce)))

    async def stop(self) -> None:
        """End and wait for the end; a worker that leaves in order is forgotten at once."""
        tasks = [*self._tasks, *([] if self._says is None else [self._says])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._pulse is not None:
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(DEPART_S):
                    await self._engine.store.depart(self._pulse.worker_id)

    def announce_now(self) -> None:
        """Tell of this worker without waiting for its turn: that it is there, or that it is leaving."""
        self._says = asyncio.create_task(self._attempt(self._announce))

    async def _every(self, pause_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(pause_s * _jitter.uniform(0.8, 1.0))
            await self._attempt(work)

    async def _attempt(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (StoreUnavailable, UnreadableRecord):
            return  # `_watch` logs that the store is away
        except Exception:  # a worker that gave up its upkeep would lose its leases without a word
            log.exception("upkeep failed", work=work.__name__)

    async def _announce(self) -> None:
        assert self._pulse is not None  # noqa: S101 - it is told to whoever has one
        self._pulse.beat()
        await self._engine.store.announce(self._pulse.worker_id, self._pulse.word())

    async def _renew(self) -> None:
        now = monotonic()
        due = [one for one in self._engine.attachments if one.attached and one.renew_at <= now and self._owes(one, now)]
        for start in range(0, len(due), BATCH):
            batch = [(one, one.held) for one in due[start : start + BATCH]]
            words = await self._engine.store.renew([(one.session_id, one.token) for one, _ in batch])
            for (attachment, base), word in zip(batch, words, strict=True):
                self._note(attachment, base, word, now)

    def _owes(self, attachment: Attachment, now: float) -> bool:
        """Whether no commit has renewed the lease meanwhile; else it is looked at again when that one gets old."""
        attachment.renew_at = attachment.leased_at + self._spread_s()
        return attachment.renew_at <= now

    def _spread_s(self) -> float:
        """A few renewals may be missed before the lease lapses; the spread keeps them from bunching."""
        return self._renew_s * _jitter.uniform(0.6, 0.85)

    def _note(self, attachment: Attachment, base: Held | None, word: Word | None, now: float) -> None:
        """What a renewal found; None, no answer, is asked again at the next round."""
        if word is Word.RENEWED:
            attachment.renew_at = now + self._spread_s()
        elif word is Word.GONE and attachment.held is base:  # else its own reset has made it anew
            attachment.let_go()
        elif word is Word.SUPERSEDED and attachment in self._engine.attachments:
            attachment.superseded = True
            self._engine.attachments.discard(attachment)
            self._engine.events.lost(attachment.session_id, attachment.seen)
            attachment.lost(taken_over())

    async def _watch(self) -> None:
        """Log what becomes of the store; whoever asks meanwhile is told by its error."""
        found, reason = await self._look()
        meter = self._engine.meter
        meter.set(REDIS_AWAY, int(found == AWAY))
        meter.set(REDIS_FULL, int(found == FULL))
        meter.look_at_process()
        if found == self._found:
            return
        self._found = found
        if found == BACK:
            log.info(found)
        else:
            log.warning(found, reason=reason, remedy=REMEDIES[found])

    async def _look(self) -> tuple[str, str]:
        """How the store is, and its own words where it is not well."""
        try:
            await self._engine.store.ping()
        except StoreFull as full:
            return FULL, str(full)
        except StoreUnavailable as away:
            return AWAY, str(away)
        return BACK, ""

    async def _sweep(self) -> None:
        freed = await self._engine.store.sweep()
        if freed:
            log.info("places freed", places=freed)

    async def _keep(self) -> None:
        if self._engine.active or self._engine.attachments:
            self._engine.active = False
            await self._engine.store.keep()
