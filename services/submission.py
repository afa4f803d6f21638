"""One command's way: snapshot → decide → commit, again on a newer snapshot while it is stale.

A submission lives as long as its request and holds what the rounds learn: the snapshot decided
on, whether that came fresh from the store, and what it led to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

from metagame.core.codec import decide_packed, unknown_format
from metagame.core.remembered import HASH_BYTES, REMEMBERED, entry_of, recall, request_key
from metagame.core.session import Command, Snapshot, Step
from metagame.errors import (
    CapacityReached,
    GameFailed,
    MetaGameError,
    SessionMoved,
    Unavailable,
)
from metagame.games import Game, Observation
from metagame.wire.requests import ResetRequest, StepRequest

from .attachment import Attachment, read, taken_over
from .events import Events
from .meter.layout import COMMITS, STEP_COMMITTED
from .records import Held, counter, distinct_bytes, generation_after, held
from .resend import Deadline
from .store.base import (
    COMMITTED,
    Commit,
    Draft,
    Origin,
    Outcome,
    Record,
    Said,
    SessionStore,
    StoreUnavailable,
    UnreadableRecord,
    Word,
)

ROUNDS = 8
"""Decisions on ever newer snapshots before a request is sent back."""
LEASE_FRESH_S = 2.0
"""A commit leaves a younger lease as it is, which spares Redis the look at its clock."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What every request is carried out with: the game, the store, and how long and how much it may."""

    game: Game
    store: SessionStore
    max_sessions: int
    timeout_s: float
    events: Events

    def full(self, outcome: Outcome, session_id: str | None) -> CapacityReached:
        """The error for a session that finds no place."""
        self.events.refused("capacity", session_id, active=outcome.active)
        counts = f"{outcome.active}/{self.max_sessions}"
        message = f"Server at capacity: {counts} sessions active. Cannot accept new connections."
        return CapacityReached(message, active_sessions=outcome.active, max_sessions=self.max_sessions)


def forgotten() -> Unavailable:
    """The error for a commit whose answer was lost in a session that has gone on too far to tell."""
    message = (
        "This request may or may not have been carried out, and the session has gone on too far to tell."
        " Ask for the state before going on; the same request_id would not be recognized."
    )
    return Unavailable(message, retryable=False, outcome="unknown")


class Submission:
    """A reset or step on its way; `run` it once.

    Nearly every step is on a socket whose snapshot this worker holds, and is committed at the first
    try. Such a one can be begun without a coroutine, which costs as much as all else: `begin`,
    `settle`, and `run` only for what turned out otherwise.
    """

    __slots__ = (
        "_after",
        "_answer",
        "_attachment",
        "_base",
        "_began",
        "_body",
        "_command",
        "_fresh",
        "_generation",
        "_kept_deadline",
        "_key",
        "_pool",
        "_renews",
        "_said",
        "_session_id",
        "_told",
        "request_id",
    )

    def __init__(
        self,
        pool: Pool,
        session_id: str,
        attachment: Attachment | None,
        command: Command,
        request: ResetRequest | StepRequest,
    ) -> None:
        self._pool = pool
        self._session_id = session_id
        self._attachment = attachment
        self._command = command
        self._key = _key(request)
        self.request_id = request.request_id
        self._began = monotonic()
        self._kept_deadline: Deadline | None = None
        self._base = None if attachment is None else attachment.held
        self._fresh = False
        self._said: Said | None = None

    def begin(self, told: Callable[[Submission], None]) -> bool:
        """Have it committed on the snapshot that the socket holds, and `told` once there is word of it, maybe at once.

        False where that is not possible: nothing was sent, and `run` is to do all.
        """
        if self._base is None or self._attachment is None or self._attachment.superseded:
            return False
        self._told = told
        try:
            self._decide()
            self._pool.store.commit_soon(self._session_id, self._commit(self._base), self._hear)
        except (MetaGameError, StoreUnavailable):
            return False
        return True

    def settle(self) -> Observation | None:
        """The answer, if what was begun is committed; else `run` goes on with it."""
        if self._said is not COMMITTED:
            return None
        self._pool.events.meter.cells[STEP_COMMITTED] += 1
        return self._kept_answer()

    async def run(self) -> Observation:
        """The answer, committed now or when the request first came."""
        if self._said is not None:
            answer = self._settled(await self._counted(self._heard(self._said)))
            if answer is not None:
                return answer
        elif self._attachment is not None and self._attachment.superseded:
            raise taken_over()
        for _ in range(ROUNDS):
            answer = await self._round()
            if answer is not None:
                return answer
        message = "Too many others are changing this session at this moment, and nothing was done. Send it again."
        raise Unavailable(message, retryable=True)

    @property
    def _deadline(self) -> Deadline:
        """Made when something is waited for: a step that is begun and committed does without."""
        if self._kept_deadline is None:
            repeatable = self.request_id is not None
            self._kept_deadline = Deadline(self._pool.timeout_s, repeatable=repeatable, began=self._began)
        return self._kept_deadline

    def _hear(self, said: Said) -> None:
        self._said = said
        self._told(self)

    async def _heard(self, said: Said) -> Outcome:
        """The outcome of what was begun, sent again where there was none."""
        if isinstance(said, UnreadableRecord):
            raise unknown_format()
        if isinstance(said, StoreUnavailable):
            assert self._base is not None  # noqa: S101 - it was begun on that
            commit = self._commit(self._base)
            return await self._deadline.after(said, self._pool.store.commit, self._session_id, commit)
        return said

    async def _round(self) -> Observation | None:
        """Decide and commit once; None where that is to be done again on a newer snapshot."""
        if self._base is None and not self._fresh:
            replayed = await self._learn()
            if replayed is not None:
                return replayed
        try:
            self._decide()
        except MetaGameError as refusal:
            if self._fresh:
                if isinstance(refusal, GameFailed):
                    game, kind = self._pool.game.name, self._command.kind
                    self._pool.events.game_failed(game, kind, self._session_id, refusal, self.request_id)
                raise
            self._base = None  # the refusal may be the cache's fault: ask the store before saying so
            return None
        return self._settled(await self._counted(self._write()))

    async def _counted(self, asked: Awaitable[Outcome]) -> Outcome:
        """The outcome of a commit, which is counted, and so is that there is none."""
        try:
            outcome = await asked
        except MetaGameError:
            self._count("unknown" if self._deadline.unknown else "refused")
            raise
        if outcome.word is Word.MADE:
            self._pool.events.made(
                self._session_id,
                self._origin(),
                attached=self._attachment is not None,
                episode_id=self._after.episode_id,
                request_id=self.request_id,
            )
        if outcome.word is not Word.FULL:  # a session refused, and no commit
            self._count("committed" if outcome.word is Word.MADE else outcome.word.value)
        return outcome

    def _count(self, outcome: str) -> None:
        self._pool.events.meter.count(COMMITS, self._command.kind, outcome)

    async def _learn(self) -> Observation | None:
        """Take the session's newest snapshot as base; the recorded answer if it has the request already."""
        record = await read(self._pool.store, self._session_id, self._attachment, self._deadline)
        self._fresh = True
        if record is None:
            return None
        self._base = held(record)
        return self._replay(record)

    def _decide(self) -> None:
        """Find the snapshot, the answer and the body to store that the command leads to."""
        base = None if self._base is None else self._base.snapshot
        seen_by = self._attachment
        if base is not None and seen_by is not None and base.episode_id != seen_by.seen and type(self._command) is Step:
            raise _another_episode(base)
        self._after, self._answer, self._body = decide_packed(self._pool.game, base, self._command)
        self._generation = generation_after(None if self._base is None else self._base.generation)

    def _write(self) -> Awaitable[Outcome]:
        store, attachment = self._pool.store, self._attachment
        if self._base is not None:
            return self._deadline.write(store.commit, self._session_id, self._commit(self._base))
        if attachment is not None:
            attachment.tried = True
        token = b"" if attachment is None else attachment.token
        entry = entry_of(self._key, self._after.step_count)
        draft = Draft(self._origin(), self._generation, self._body, entry, token)
        self._renews = True
        return self._deadline.write(store.make, self._session_id, draft)

    def _commit(self, base: Held) -> Commit:
        attachment = self._attachment
        entry = entry_of(self._key, self._after.step_count)
        if attachment is None:
            self._renews = False
            return Commit(entry, base.generation, self._generation, self._body)
        self._renews = self._began - attachment.leased_at > LEASE_FRESH_S
        return Commit(entry, base.generation, self._generation, self._body, attachment.token, self._renews)

    def _settled(self, outcome: Outcome) -> Observation | None:
        """The answer that the outcome gives, if it gives one."""
        if outcome.word is Word.COMMITTED or outcome.word is Word.MADE:
            return self._kept_answer()
        if outcome.word is Word.FULL:
            raise self._pool.full(outcome, self._session_id)
        return self._lost_race(outcome)

    def _lost_race(self, outcome: Outcome) -> Observation | None:
        """Learn from an outcome that committed nothing; the recorded answer if there is one."""
        if outcome.word is Word.SUPERSEDED:
            if self._attachment is not None:
                self._attachment.superseded = True
            raise taken_over()
        if outcome.word is Word.GONE:
            self._base, self._fresh = None, True
            if self._attachment is not None:
                self._attachment.let_go()
            if self._deadline.remaining_s() <= 0:
                raise self._deadline.passed()  # a reset that slept makes no session anew
            return None
        record = _present(outcome)
        if outcome.word is Word.STALE:
            self._check_certain(record)
        attachment = self._attachment
        if attachment is not None and not attachment.attached and record.attachment != attachment.token:
            # A session that somebody else made in between is attached to before it is used.
            self._base, self._fresh = None, False
            return None
        if outcome.word is not Word.STALE:
            return self._replay(record)
        self._base, self._fresh = held(record), True
        return None

    def _replay(self, record: Record) -> Observation | None:
        """The recorded answer, if the record remembers the request; see `recall` for its errors."""
        answer = recall(record.remembered, record.body, self._key)
        attachment = self._attachment
        if answer is not None and attachment is not None and record.attachment == attachment.token:
            attachment.holds(held(record))
            attachment.seen = held(record).snapshot.episode_id  # only the newest request's answer is kept
        return answer

    def _kept_answer(self) -> Observation:
        """The answer, when the socket has taken note of where the session stands by now."""
        if self._pool.events.log_steps:
            self._tell_log()
        attachment = self._attachment
        if attachment is not None:
            after = self._after
            attachment.holds(Held(self._generation, after, self._origin()))
            attachment.seen = after.episode_id
            if self._renews:
                attachment.leased_at = self._began
        return self._answer

    def _tell_log(self) -> None:
        self._pool.events.committed(self._command.kind, self._session_id, self._after, self._began, self.request_id)

    def _origin(self) -> Origin:
        if self._base is not None:
            return self._base.origin
        return Origin.NAMED if self._attachment is None else self._attachment.origin

    def _check_certain(self, record: Record) -> None:
        """Refuse to decide again where a commit whose answer was lost may have been carried out.

        A record remembers its newest requests: further on, or in another session of this name, it
        can no longer say whether this one was among them. That also goes for a request that its
        client may have sent to another worker while this one slept. A deadline that passed refuses
        as well: the client may long have gone on elsewhere.
        """
        gone_on = counter(record.generation) - (0 if self._base is None else counter(self._base.generation))
        beyond_memory = not 0 < gone_on <= REMEMBERED
        if self._deadline.unknown and beyond_memory:
            raise forgotten()
        if self._deadline.remaining_s() <= 0:
            raise self._deadline.passed()
        named = self.request_id is not None
        if beyond_memory and named and self._fresh:  # a socket's cache may be older than the request
            message = (
                "The session went on further than it remembers requests while this one was on its way,"
                " and nothing was done now. If it has no answer yet, send it again."
            )
            raise Unavailable(message, retryable=True)


def _key(request: ResetRequest | StepRequest) -> bytes:
    if request.request_id is None:
        return distinct_bytes(HASH_BYTES) + bytes(HASH_BYTES)
    payload = request.action if type(request) is StepRequest else request.payload
    return request_key(request.request_id, request.kind, payload)


def _present(outcome: Outcome) -> Record:
    if outcome.record is None:
        message = f"the store answered {outcome.word.value} without the record"
        raise AssertionError(message)
    return outcome.record


def _another_episode(snapshot: Snapshot) -> SessionMoved:
    """The error for a step in an episode that this socket never saw: somebody else reset the session."""
    message = (
        "Another client has started a new episode in this session since this socket last saw it."
        " Ask for the state to go on in that one, or reset."
    )
    return SessionMoved(message, episode_id=snapshot.episode_id, step_count=snapshot.step_count)
