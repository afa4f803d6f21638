"""One session seen from the client: what it expects, when it sends again, and when it gives up.

Every transport is used through this, so the promises are the same on all of them: a request
happens once, and an answer belongs to the episode and step that the caller is at.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

from metagame.client.shapes import clause, in_words
from metagame.client.tracing import sent_again, traced
from metagame.client.transport import ConnectionLost, Transport
from metagame.core.session import REFUSALS, Expect
from metagame.errors import (
    CapacityReached,
    EpisodeOver,
    GameFailed,
    InvalidRequest,
    MetaGameError,
    NoEpisode,
    ProtocolError,
    RequestConflict,
    SessionLost,
    SessionMoved,
    SessionTakenOver,
    Unavailable,
)
from metagame.games import Observation
from metagame.wire.answers import Answer, StateAnswer
from metagame.wire.requests import CloseRequest, ResetRequest, StateRequest, StepRequest

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
LONGEST_REFUSAL_S = 10.0
"""A server needs METAGAME_REDIS_TIMEOUT_S, 5 by default, to say that its store is away. An attempt that took
longer met one that was frozen meanwhile: the next does not."""
CLOSE_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_AWAY_S = 2.0
"""Where the last call has found that the server is away."""
NOTHING_YET = Expect(None, 0)

_HARMLESS = (InvalidRequest, NoEpisode, EpisodeOver, GameFailed, CapacityReached)
"""Refusals after which the session stands where it stood."""

_log = logging.getLogger("metagame")
_jitter = random.SystemRandom()  # not the global generator, and not the same in forked processes


class Session:
    """A session's calls, one after another, each carried out once.

    `minted`: this client made the id up, so a socket that took the session from it was its own:
    an older handshake that reached a worker late. `shared`: others step the session too, so no
    position is expected and closing does not end it. `server` names the server in errors. After
    a call was cut off with its outcome unknown, a step is refused until `state` or `reset` has
    said where the session stands: whether it counted is not guessed.
    """

    def __init__(  # noqa: PLR0913 - keywords, all needed
        self,
        transport: Transport,
        session_id: str,
        *,
        minted: bool,
        shared: bool,
        server: str,
        deadline_s: float,
        capacity_wait_s: float,
    ) -> None:
        self.session_id = session_id
        self._transport = transport
        self._shared = shared
        self._server = server
        self._deadline_s = deadline_s
        self._capacity_wait_s = capacity_wait_s
        self._turn = asyncio.Lock()
        self._minted = minted
        self._fresh = minted
        self._stands: Expect | None = NOTHING_YET if minted else None
        self._doubt: MetaGameError | None = None
        self._used = False
        self._reached = False
        self._away = False
        self._final: MetaGameError | None = None
        self.hopeless: Callable[[], Awaitable[MetaGameError | None]] | None = None
        """Asked when a connection is lost: why sending again cannot help, if it cannot."""

    async def reset(self, seed: int | None, episode_id: str | None, options: dict[str, Any]) -> Observation:
        """Start an episode. After an error that left the position unknown it starts wherever the session is."""
        async with self._turn:
            name = episode_id or str(uuid4())
            expect = None if self._shared or self._doubt else self._stands
            observation = await self._act(ResetRequest(seed, name, options, uuid4().hex, expect))
            self._stands, self._doubt, self._fresh = Expect(name, 0), None, False
            return observation

    async def step(self, action: dict[str, Any]) -> Observation:
        """Take one step from where the last answer left the session; raises SessionMoved if that is not known."""
        async with self._turn:
            if self._doubt is not None and self._final is None and not self._shared:
                raise self._doubt.with_traceback(None)
            if self._stands is None and not self._shared:
                self._stands = await self._ask()
            expect = None if self._shared else self._stands
            try:
                observation = await self._act(StepRequest(action, uuid4().hex, expect))
            except SessionLost as error:
                if not self._fresh or self._final is not None:
                    raise
                self._doubt = None
                raise NoEpisode(REFUSALS[NoEpisode]) from error
            if self._stands is not None:
                self._stands = replace(self._stands, step_count=self._stands.step_count + 1)
            return observation

    async def state(self) -> StateAnswer:
        """Where the session stands.

        Only where the position is unknown do later steps go on from here: otherwise asking
        would hide that the session moved.
        """
        async with self._turn:
            try:
                stands = await self._ask()
            except SessionLost:
                if not self._fresh or self._final is not None:
                    raise
                stands = NOTHING_YET
            if self._doubt is not None or self._stands is None:
                self._stands, self._doubt = stands, None
            return StateAnswer(stands.episode_id, stands.step_count)

    async def close(self) -> None:
        """End the session, if it was used and is still this client's; tried once."""
        async with self._turn:
            if self._final is not None:
                return
            message = (
                "This client is closed. Make a new one; with the same session_id it goes on in a session that stays."
            )
            self._final = SessionLost(message)
            if not self._used or self._shared:
                return
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_AWAY_S if self._away else CLOSE_TIMEOUT_S):
                    await self._transport.exchange(self.session_id, CloseRequest())
            except (ConnectionLost, MetaGameError, TimeoutError):
                return  # its time to live ends a session that could not be ended here

    async def _ask(self) -> Expect:
        answer = await self._call(StateRequest(uuid4().hex))
        if not isinstance(answer, StateAnswer):
            raise _wrong_kind()
        return Expect(answer.episode_id, answer.step_count)

    async def _act(self, request: ResetRequest | StepRequest) -> Observation:
        """The answer to a reset or step, with what an error or a cancellation means for the position noted."""
        try:
            return _observation(await self._call(request))
        except SessionLost as error:
            self._doubt = error
            raise
        except BaseException as error:
            if _leaves_doubt(error):
                self._doubt = _position_unknown()
            raise

    async def _call(self, request: ResetRequest | StepRequest | StateRequest) -> Answer | None:
        """The answer; a session that somebody else took over is given up for good."""
        if self._final is not None:
            raise self._final.with_traceback(None)
        self._used = True
        try:
            with traced(request) as sent:
                return await self._deliver(sent)
        except SessionTakenOver as error:
            message = (
                "Another client attached to this session and owns it now; this one stays detached, so that the two do"
                " not take it from each other in turns. To take it back, make a new client with this session_id."
            )
            self._final = SessionTakenOver(message, **error.fields)
            raise self._final from error
        except InvalidRequest as error:
            if not (what := in_words(error.fields.get("errors"))):
                raise
            message = f"The server refused the {request.kind.value}, and nothing was done: {what}."
            raise type(error)(message, **error.fields) from error

    async def _deliver(self, request: ResetRequest | StepRequest | StateRequest) -> Answer | None:
        """Send the same request until it is answered or the deadline has passed."""
        clock = asyncio.get_running_loop().time
        ends = clock() + self._deadline_s
        full_until = clock() + self._capacity_wait_s
        limit: float | None = None  # the first attempt has the transport's own time-outs
        pause_s = FIRST_PAUSE_S
        failed = _Failures()
        while True:
            began, until, needs_s = clock(), ends, 0.0
            try:
                async with asyncio.timeout_at(limit):
                    answer = await self._transport.exchange(self.session_id, request)
            except (ConnectionLost, TimeoutError) as lost:
                failed.note(lost, maybe_sent=not isinstance(lost, ConnectionLost) or lost.sent)
            except SessionTakenOver as over:
                if not self._minted:
                    raise
                failed.note(over, maybe_sent=True)
            except CapacityReached as full:
                until = full_until
                failed.note(full)
            except Unavailable as away:
                failed.note(away, maybe_sent=away.fields.get("outcome") == "unknown")
                if not away.retryable:
                    away.fields |= {"outcome": "unknown"} if failed.maybe_sent else {}
                    raise
                # An attempt that the deadline would cut off is not begun: it might count unseen.
                needs_s = min(clock() - began, LONGEST_REFUSAL_S)
            else:
                self._reached, self._away = True, False
                return answer
            await self._check_hope(failed.last)
            self._away = not isinstance(failed.last, CapacityReached)
            wait_s = max(failed.retry_after_s, _jitter.uniform(0, pause_s))
            if clock() + wait_s + needs_s >= until:
                raise self._gave_up(request, failed) from None
            self._warn_once(failed.last)
            sent_again(str(failed.last) or type(failed.last).__name__)
            await asyncio.sleep(wait_s)
            limit = max(ends, full_until)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _check_hope(self, last: Exception) -> None:
        if self.hopeless is not None and (why := await self.hopeless()) is not None:
            raise why from last

    def _warn_once(self, last: Exception) -> None:
        """Somebody who forgot to start the server need not wait for the deadline to be told."""
        if self._reached:
            return
        self._reached = True
        if isinstance(last, ConnectionLost):
            text = "%s does not answer yet (%s); trying for %g s. `metagame serve` starts one on port 8000."
            _log.warning(text, self._server, last, self._deadline_s)

    def _gave_up(self, request: ResetRequest | StepRequest | StateRequest, failed: _Failures) -> MetaGameError:
        last, said, verb = failed.last, failed.said, request.kind.value
        if isinstance(last, CapacityReached):
            message = (
                f"{last.message} Close sessions that are no longer needed, raise METAGAME_MAX_SESSIONS,"
                " or pass capacity_wait_s= to wait for a place."
            )
            return CapacityReached(message, **last.fields)
        if said is not None and last is said:
            message = f"{said.message} {self._server} gave no other answer to this {verb} in {self._deadline_s:g} s."
        else:
            what = clause(last) or "no answer in time"
            what += "" if said is None else f"; before that it said: {clause(said)}"
            message = f"{self._server} gave no answer to this {verb} within {self._deadline_s:g} s ({what})."
            if said is None and isinstance(last, ConnectionLost):
                message += " Is the server running, and base_url right? `metagame serve` starts one on port 8000."
        if isinstance(request, StateRequest):
            return Unavailable(message, retryable=True)
        if not failed.maybe_sent:
            return Unavailable(f"{message} The {verb} was not carried out: call it again.", retryable=True)
        message += (
            f" The {verb} may have counted all the same:"
            " call state() to see where the session stands and go on from there, or reset()."
        )
        return Unavailable(message, retryable=False, outcome="unknown")


class _Failures:
    """What became of the attempts of one call so far; `said` is the server's own word that it cannot."""

    def __init__(self) -> None:
        self.last: Exception
        self.said: Unavailable | None = None
        self.maybe_sent = False
        self.retry_after_s = 0.0

    def note(self, error: Exception, *, maybe_sent: bool = False) -> None:
        """One more attempt failed; `maybe_sent`: it may have counted."""
        self.last = error
        self.maybe_sent |= maybe_sent
        if isinstance(error, Unavailable):
            self.said = error
        if isinstance(error, ConnectionLost):
            self.retry_after_s = error.retry_after_s
        else:
            self.retry_after_s = _retry_after_s(error) if isinstance(error, MetaGameError) else 0.0


def _leaves_doubt(error: BaseException) -> bool:
    """Whether the session may stand elsewhere than before the call."""
    if isinstance(error, RequestConflict):
        return True
    if isinstance(error, Unavailable):
        return error.fields.get("outcome") == "unknown"
    return not isinstance(error, _HARMLESS)


def _retry_after_s(error: MetaGameError) -> float:
    value = error.fields.get("retry_after_s", 0.0)
    return float(value) if isinstance(value, int | float) else 0.0


def _observation(answer: Answer | None) -> Observation:
    if not isinstance(answer, Observation):
        raise _wrong_kind()
    return answer


def _wrong_kind() -> ProtocolError:
    message = "The server answered with another kind of frame than was asked for. Is base_url a Metagame server's?"
    return ProtocolError(message)


def _position_unknown() -> SessionMoved:
    message = (
        "An earlier call on this client was cut off or refused, so it is not known at which step the session stands."
        " Call state() to see it and go on from there, or reset() to start an episode."
    )
    return SessionMoved(message, outcome="unknown")
