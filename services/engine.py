"""What every surface asks of the pool.

The engine holds no session. A reset or step goes its way in submission.py; what is random is filled
in here, before the first decision, so that deciding again decides the same. Making, listing and
ending sessions, and what becomes of one when its socket goes, stand here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeVar
from uuid import uuid4

from metagame.core.codec import decide_packed, pack
from metagame.core.session import EMPTY, Kind, Reset, Step, check_legal, check_session_id, refused
from metagame.errors import (
    GameFailed,
    InvalidAction,
    InvalidRequest,
    MetaGameError,
    NoTools,
    SessionLost,
    Unavailable,
    UnknownTool,
)
from metagame.games import Game, Observation, Tool, tools_of
from metagame.wire.answers import StateAnswer
from metagame.wire.requests import ResetRequest, StepRequest, validate_action
from metagame.wire.tools import (
    CallToolAction,
    ListToolsAction,
    ToolCall,
    ToolResult,
    action_of,
    call_observation,
    failure_observation,
    find_tool,
    result_of,
    tool_action,
    tools_observation,
)

from .attachment import Attachment, read
from .events import Events
from .meter import Meter
from .records import Held, SessionItem, generation_after, held, item, listed, new_session_id
from .resend import Deadline
from .store.base import Draft, Origin, SessionStore, Word
from .submission import Pool, Submission

LEAVE_S = 1.0
"""What a socket that goes may wait for the store: its lease and TTL do the rest."""
TRIES = 8
"""How often a session is made that somebody ends before it can be shown."""

T = TypeVar("T")


class Engine:
    """The operations of the pool; every method may raise what metagame.errors lists."""

    def __init__(  # noqa: PLR0913 - settings, by keyword
        self,
        game: Game,
        store: SessionStore,
        *,
        max_sessions: int,
        timeout_s: float,
        step_before_reset: bool = False,
        meter: Meter | None = None,
        log_steps: bool = False,
    ) -> None:
        self.game = game
        self.store = store
        self.meter = meter or Meter()
        self.events = Events(self.meter, log_steps=log_steps)
        self.attachments: set[Attachment] = set()
        self.active = False
        """Whether a session was used since the upkeep last looked."""
        self._pool = Pool(game, store, max_sessions, timeout_s, self.events)
        self._step_before_reset = step_before_reset

    async def reset(self, session_id: str, request: ResetRequest, attachment: Attachment | None = None) -> Observation:
        """Start an episode, making the session if there is none."""
        command = Reset(
            episode_id=request.episode_id or str(uuid4()),
            seed=secrets.randbits(63) if request.seed is None else request.seed,
            options=request.options,
            expect=request.expect,
        )
        self.active = True
        return await Submission(self._pool, session_id, attachment, command, request).run()

    async def step(self, session_id: str, request: StepRequest, attachment: Attachment | None = None) -> Observation:
        """Take one step of the running episode; the action may be OpenEnv's way to list or call tools."""
        try:
            submission = self._step(session_id, request, attachment)
        except InvalidAction:
            asked = tool_action(request.action) if tools_of(self.game) else None
            if asked is None:
                raise
            return await self._step_by_tool(session_id, request, asked, attachment)
        return await submission.run()

    def step_soon(self, request: StepRequest, attachment: Attachment, told: Callable[[Submission], None]) -> bool:
        """A socket's `step` without a coroutine, where that is possible; see `Submission.begin`.

        Raises InvalidAction, also for a tool's call.
        """
        if attachment.held is None:
            return False
        return self._step(attachment.session_id, request, attachment).begin(told)

    async def call(
        self,
        session_id: str | None,
        asked: ToolCall,
        attachment: Attachment | None = None,
        *,
        begins: bool = True,
    ) -> ToolResult:
        """Call a tool, which is a step; without a session, in one of its own that ends with the call.

        An agent cannot reset, so the step `begins` the episode of a session that never had one. Raises
        NoTools, UnknownTool, or InvalidAction that names the arguments.
        """
        tool = find_tool(self.tools(), asked.name)
        request = StepRequest(self._of_the_game(action_of, tool, asked.arguments, session_id), asked.request_id)
        begin = _first_reset() if begins else None
        if session_id is None:
            own = await self.open(None, lambda _lost: None)
            try:
                seen = await self._step(own.session_id, request, own, begin).run()
            finally:
                await self.leave(own)
        else:
            seen = await self._step(session_id, request, attachment, begin).run()
        return self._of_the_game(result_of, tool, seen, session_id)

    def tools(self) -> tuple[Tool, ...]:
        """The game's tools; raises NoTools."""
        tools = tools_of(self.game)
        if not tools:
            message = "Environment does not support MCP"
            raise NoTools(message)
        return tools

    async def state(
        self,
        session_id: str,
        attachment: Attachment | None = None,
        *,
        traceparent: str | None = None,  # noqa: ARG002 - read by the engine that traces
    ) -> StateAnswer:
        """Where the session stands now, whatever this worker remembers."""
        self.active = True
        record = await read(self.store, session_id, attachment, self._deadline())
        snapshot = None if record is None else held(record).snapshot
        check_legal(snapshot, Kind.STATE)
        stands = snapshot or EMPTY
        if attachment is not None:
            attachment.seen = stands.episode_id
        return StateAnswer(stands.episode_id, stands.step_count)

    async def make(self, session_id: str | None, *, begun: bool = False) -> tuple[SessionItem, bool]:
        """A session, and whether it is new; an existing one stays as it is.

        `begun`: an agent's, whose first episode begins at once, since an agent cannot reset.
        """
        name = new_session_id() if session_id is None else check_session_id(session_id)
        body = decide_packed(self.game, EMPTY, _first_reset())[2] if begun else pack(EMPTY, None)
        draft = Draft(Origin.AGENT if begun else Origin.MADE, generation_after(None), body)
        for _ in range(TRIES):
            outcome = await self._deadline().write(self.store.make, name, draft)
            if outcome.word is Word.FULL:
                raise self._pool.full(outcome, name)
            if outcome.word is Word.MADE:
                self.events.made(name, draft.origin)
            record = await self._deadline().read(self.store.inspect, name)
            if record is not None:
                return item(name, record), outcome.word is Word.MADE
        message = "Somebody ends this session as fast as it is made. Send the request again."
        raise Unavailable(message, retryable=True)

    async def inspect(self, session_id: str) -> SessionItem:
        """One session, its TTL left as it is."""
        record = await self._deadline().read(self.store.inspect, session_id)
        if record is None:
            raise refused(SessionLost)
        return item(session_id, record)

    async def page(self, cursor: str | None, limit: int) -> tuple[list[SessionItem], str | None]:
        """Some sessions and the cursor to go on with; raises store.base.InvalidCursor."""
        page = await self._deadline().read(self.store.page, cursor, limit)
        return [listed(session_id, record) for session_id, record in page.sessions], page.next_cursor

    async def end(self, session_id: str) -> bool:
        """End a session, and whether there was one; one that does not exist is no error."""
        ended = await self._deadline().write(self.store.end, session_id)
        if ended:
            self.events.ended(session_id, "asked")
        return ended

    async def end_for_agent(self, session_id: str) -> bool:
        """End a session that an agent began, and whether there was one; raises InvalidRequest for anybody else's."""
        record = await self._deadline().read(self.store.inspect, session_id)
        if record is not None and record.origin is not Origin.AGENT:
            message = "No agent began this session, so none ends it: that is for whoever made it."
            raise InvalidRequest(message)
        return record is not None and await self.end(session_id)

    async def open(self, session_id: str | None, lost: Callable[[MetaGameError], None]) -> Attachment:
        """An open socket's attachment: to the named session, or to an anonymous one made for it."""
        try:
            attachment = await self._open(session_id, lost)
        except Unavailable:
            self.events.refused("unavailable", session_id)
            raise
        self.attachments.add(attachment)
        return attachment

    async def _open(self, session_id: str | None, lost: Callable[[MetaGameError], None]) -> Attachment:
        if session_id is None:
            attachment = Attachment(new_session_id(), anonymous=True, lost=lost, meter=self.meter)
            draft = Draft(Origin.ANONYMOUS, generation_after(None), pack(EMPTY, None), attachment=attachment.token)
            deadline = self._deadline()
            outcome = await deadline.write(self.store.make, attachment.session_id, draft)
            if outcome.word is Word.FULL:
                raise self._pool.full(outcome, None)
            self.events.made(attachment.session_id, draft.origin, attached=True)
            attachment.leased_at = deadline.began
            attachment.holds(Held(draft.generation, EMPTY, draft.origin))
            return attachment
        attachment = Attachment(session_id, anonymous=False, lost=lost, meter=self.meter)
        self.active = True
        await read(self.store, session_id, attachment, self._deadline(), opening=True)
        if attachment.held is not None:  # else its reset makes the session
            snapshot = attachment.held.snapshot
            attachment.seen = snapshot.episode_id
            self.events.attached(session_id, snapshot, took_over=attachment.took_over)
        return attachment

    async def leave(self, attachment: Attachment, *, closed: bool = False) -> None:
        """End or detach the session of a socket that goes, by a `close` frame or not; once."""
        self.attachments.discard(attachment)
        if attachment.held is None and not attachment.tried:
            return
        # A reset whose answer was lost may have made the session all the same.
        origin = attachment.origin if attachment.held is None else attachment.held.origin
        ends = origin is Origin.ANONYMOUS or (closed and origin is Origin.NAMED)
        attachment.let_go()
        attachment.tried = False
        verb = self.store.end if ends else self.store.detach
        deadline = Deadline(min(LEAVE_S, self._pool.timeout_s), repeatable=True)
        session_id, episode_id = attachment.session_id, attachment.seen
        try:
            had_it = await deadline.write(verb, session_id, attachment.token)
        except Unavailable:
            self.events.left_alone(session_id, episode_id=episode_id)
            return  # the lease or the TTL ends what could not be ended here
        reason: Literal["closed", "left"] = "closed" if closed else "left"
        if had_it and ends:
            self.events.ended(session_id, reason, episode_id=episode_id)
        elif had_it:
            self.events.detached(session_id, reason, episode_id=episode_id)
        else:
            lost = "taken over" if attachment.superseded else "the session had gone"
            self.events.detached(session_id, lost, episode_id=episode_id)

    def _step(
        self, session_id: str, request: StepRequest, attachment: Attachment | None, begin: Reset | None = None
    ) -> Submission:
        action = validate_action(self.game.action_type, request.action)
        if self._step_before_reset and attachment is not None and attachment.anonymous:
            begin = _first_reset()
        self.active = True
        return Submission(self._pool, session_id, attachment, Step(action, request.expect, begin), request)

    async def _step_by_tool(
        self,
        session_id: str,
        request: StepRequest,
        asked: CallToolAction | ListToolsAction,
        attachment: Attachment | None,
    ) -> Observation:
        """A step whose action is OpenEnv's: tools listed, which is no step, or one called."""
        if isinstance(asked, ListToolsAction):
            return tools_observation(self.tools())
        try:
            tool = find_tool(self.tools(), asked.tool_name)
            action = self._of_the_game(action_of, tool, asked.arguments, session_id)
            seen = await self._step(session_id, replace(request, action=action), attachment).run()
        except (UnknownTool, InvalidAction) as error:
            return failure_observation(asked.tool_name, error)
        return call_observation(tool, seen, self._of_the_game(result_of, tool, seen, session_id))

    def _of_the_game(self, verb: Callable[[Tool, Any], T], tool: Tool, given: Any, session_id: str | None) -> T:
        try:
            return verb(tool, given)
        except GameFailed as failure:
            self.events.tool_failed(self.game.name, tool.name, session_id, failure)
            raise

    def _deadline(self) -> Deadline:
        return Deadline(self._pool.timeout_s, repeatable=True)


def _first_reset() -> Reset:
    """The reset that nobody sent, of an episode that begins by itself."""
    return Reset(str(uuid4()), secrets.randbits(63), {})
