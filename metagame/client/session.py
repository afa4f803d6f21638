"""One session seen from the client: what it expects, when it sends again, and when it gives up.

Every transport is used through this, so the promises are the same on all of them: a request
happens once, and an answer belongs to the episode and step that the caller is at.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any
from uuid import uuid4

from metagame.client.shapes import in_words
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
CLOSE_TIMEOUT_S = 5.0
NOTHING_YET = Expect(None, 0)

_HARMLESS = (InvalidRequest, NoEpisode, EpisodeOver, GameFailed, CapacityReached)
"""Refusals after which the session stands where it stood."""

_jitter = random.SystemRandom()  # not the global generator, and not the same in forked processes


class Session:
    """A session's calls, one after another, each carried out once.

    `minted`: nobody else knows the id. `shared`: others step the session too, so no position
    is expected and closing does not end it. `server` names the server in errors. After a call
    was cut off with its outcome unknown, a step is refused until `state` or `reset` has said
    where the session stands: whether it counted is not guessed.
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
        self._fresh = minted
        self._stands: Expect | None = NOTHING_YET if minted else None
        self._doubt: MetaGameError | None = None
        self._used = False
        self._final: MetaGameError | None = None

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
                answer = await self._call(StateRequest(uuid4().hex))
            except SessionLost:
                if not self._fresh or self._final is not None:
                    raise
                answer = StateAnswer(None, 0)
            if not isinstance(answer, StateAnswer):
                raise _wrong_kind()
            if self._doubt is not None or self._stands is None:
                self._stands, self._doubt = Expect(answer.episode_id, answer.step_count), None
            return answer

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
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._transport.exchange(self.session_id, CloseRequest())
            except (ConnectionLost, MetaGameError, TimeoutError):
                return  # its time to live ends a session that could not be ended here

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
        """The answer; a session that was taken over is given up for good."""
        if self._final is not None:
            raise self._final.with_traceback(None)
        self._used = True
        try:
            return await self._deliver(request)
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
        maybe_sent = False
        last: Exception
        while True:
            until, retry_after_s = ends, 0.0
            try:
                async with asyncio.timeout_at(limit):
                    return await self._transport.exchange(self.session_id, request)
            except ConnectionLost as lost:
                maybe_sent |= lost.sent
                retry_after_s, last = lost.retry_after_s, lost
            except CapacityReached as full:
                until, retry_after_s, last = full_until, _retry_after_s(full), full
            except Unavailable as away:
                maybe_sent |= away.fields.get("outcome") == "unknown"
                if not away.retryable:
                    away.fields |= {"outcome": "unknown"} if maybe_sent else {}
                    raise
                retry_after_s, last = _retry_after_s(away), away
            except TimeoutError as late:
                maybe_sent, last = True, late
            wait_s = max(retry_after_s, _jitter.uniform(0, pause_s))
            if clock() + wait_s >= until:
                raise self._gave_up(request, last, maybe_sent=maybe_sent) from last
            await asyncio.sleep(wait_s)
            limit = max(ends, full_until)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _gave_up(
        self, request: ResetRequest | StepRequest | StateRequest, last: Exception, *, maybe_sent: bool
    ) -> MetaGameError:
        if isinstance(last, CapacityReached):
            return last
        what = str(last) or "no answer in time"
        message = f"{self._server} gave no answer to this {request.kind.value} within {self._deadline_s:g} s ({what})."
        if isinstance(last, ConnectionLost):
            message += " Is the server running, and base_url right? `metagame serve` starts one on port 8000."
        if isinstance(request, StateRequest):
            return Unavailable(message, retryable=True)
        if not maybe_sent:
            return Unavailable(
                f"{message} The {request.kind.value} was not carried out: call it again.", retryable=True
            )
        message += (
            f" The {request.kind.value} may have counted all the same:"
            " call state() to see where the session stands and go on from there, or reset()."
        )
        return Unavailable(message, retryable=False, outcome="unknown")


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
