"""OpenEnv's HTTP, and the sessions as resources.

`/reset`, `/step` and `/state` stand twice: at the root, where header, query or cookie name the
session, and under `/sessions/{session_id}`, where the path does.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import asdict, replace
from functools import wraps
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar

from fastapi import APIRouter, FastAPI, Query, Request, Response

from metagame.core import strictjson
from metagame.core.session import check_session_id
from metagame.errors import SessionLost
from metagame.wire.answers import StateAnswer, observation_body, state_body
from metagame.wire.requests import (
    ResetRequest,
    StepRequest,
    check_request_id,
    decode_make_body,
    decode_reset_body,
    decode_step_body,
    invalid,
)

from ..engine import Engine
from ..lifecycle import Lifecycle
from ..records import SessionItem, new_session_id
from ..store.base import InvalidCursor
from . import describe
from .bodies import read_body
from .naming import derived_session, session_headers, session_of, tell
from .operators import check_operator
from .presence import check_present
from .problems import JSON, problem
from .shortcut import Handler

IDEMPOTENCY_KEY = "idempotency-key"
MAX_PAGE = 1000

P = ParamSpec("P")
RequestT = TypeVar("RequestT", ResetRequest, StepRequest)
Method = Callable[Concatenate["HttpSurface", P], Coroutine[Any, Any, Response]]


def counted(operation: str) -> Callable[[Method[P]], Method[P]]:
    """Have a handler's requests counted as this operation."""

    def around(handler: Method[P]) -> Method[P]:
        @wraps(handler)
        async def count(self: HttpSurface, /, *args: P.args, **kwargs: P.kwargs) -> Response:
            with self._engine.meter.timed(self.surface, operation):
                return await handler(self, *args, **kwargs)

        return count

    return around


class HttpSurface:
    """The handlers; each decodes, asks the engine, encodes."""

    surface = "http"
    """As its requests are counted."""
    decode_step = staticmethod(decode_step_body)
    encode = staticmethod(observation_body)

    def __init__(self, engine: Engine, lifecycle: Lifecycle, *, max_body_bytes: int) -> None:
        self._engine = engine
        self._lifecycle = lifecycle
        self._max_body_bytes = max_body_bytes

    @property
    def environment(self) -> dict[tuple[str, str], Handler]:
        """OpenEnv's own requests, by method and verb."""
        return {("POST", "reset"): self.reset, ("POST", "step"): self.step, ("GET", "state"): self.state}

    def install(self, app: FastAPI) -> None:
        """Add the routes."""
        game = self._engine.game
        root = APIRouter(tags=["environment"])
        by_path = APIRouter(prefix="/sessions/{session_id}", tags=["sessions"])
        for router, named in ((root, describe.BY_HEADER), (by_path, describe.BY_PATH)):
            router.post("/reset", **describe.reset(game, named))(self.reset)
            router.post("/step", **describe.step(game, named))(self.step)
            router.get("/state", **describe.state(named))(self.state)
        sessions = APIRouter(prefix="/sessions", tags=["sessions"])
        sessions.post("", **describe.make())(self.make)
        sessions.get("", **describe.page())(self.page)
        sessions.get("/{session_id}", **describe.inspect())(self.inspect)
        sessions.delete("/{session_id}", **describe.end())(self.end)
        for router in (root, sessions, by_path):
            app.include_router(router)

    @counted("reset")
    async def reset(self, request: Request) -> Response:
        """Start an episode, in a session of its own where none is named."""
        named = session_of(request)
        asked = decode_reset_body(await read_body(request, self._max_body_bytes))
        key = request.headers.get(IDEMPOTENCY_KEY)
        session_id = named or derived_session("reset", asked.request_id, key) or new_session_id()
        answer = await self._engine.reset(session_id, _with_key(asked, request))
        if named is None:
            tell(request, session_id, by_cookie=True)
        return self._json(request, self.encode(answer, asked.request_id))

    @counted("step")
    async def step(self, request: Request) -> Response:
        """Take one step of the session's episode."""
        session_id = session_of(request)
        asked = self.decode_step(await read_body(request, self._max_body_bytes))
        if session_id is None:
            message = (
                "This request names no session. Send a reset first and name its session:"
                " by the header X-Session-ID, by ?session_id=, by the cookie that the reset set,"
                " or use /sessions/{session_id}/step."
            )
            raise SessionLost(message)
        answer = await self._engine.step(session_id, _with_key(asked, request))
        return self._json(request, self.encode(answer, asked.request_id))

    @counted("state")
    async def state(self, request: Request) -> Response:
        """Where the session stands; without a session, where a new one would."""
        session_id = session_of(request)
        answer = StateAnswer(None, 0) if session_id is None else await self._engine.state(session_id)
        return self._json(request, state_body(answer))

    @counted("make")
    async def make(self, request: Request) -> Response:
        """Make a session, or find the one of this name."""
        named = decode_make_body(await read_body(request, self._max_body_bytes))
        own = derived_session("make", request.headers.get(IDEMPOTENCY_KEY)) if named is None else None
        item, made = await self._engine.make(own if named is None else named)
        tell(request, item.session_id)
        # What was found by the request's own id was made by the same request, sent before.
        return self._json(request, _item_body(item), 201 if made or own is not None else 200)

    @counted("list")
    async def page(
        self,
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        cursor: str | None = None,
    ) -> Response:
        """Some of the pool's sessions; their ids are the keys to them, so for operators only."""
        check_operator(request.scope)
        try:
            items, next_cursor = await self._engine.page(cursor or None, limit)
        except InvalidCursor:
            text = "Input should be a next_cursor of an earlier answer"
            raise invalid([{"type": "cursor", "loc": ["query", "cursor"], "msg": text}]) from None
        body = {"sessions": [asdict(item) for item in items], "next_cursor": next_cursor}
        return self._json(request, strictjson.dumps(body))

    @counted("inspect")
    async def inspect(self, request: Request, session_id: str) -> Response:
        """One session; that there is none is an answer too, and counted as no error."""
        named = tell(request, check_session_id(session_id))
        try:
            item = await self._engine.inspect(named)
        except SessionLost as none:
            return problem(none, request)
        return self._json(request, _item_body(item))

    @counted("end")
    async def end(self, request: Request, session_id: str) -> Response:
        """End a session, if it exists."""
        await check_present(request)
        await self._engine.end(tell(request, check_session_id(session_id)))
        return Response(status_code=204, headers=session_headers(request))

    def _json(self, request: Request, body: bytes, status: int = 200) -> Response:
        headers = session_headers(request)
        if self._lifecycle.draining:
            headers["connection"] = "close"
        return Response(body, status, headers, JSON)


def _with_key(asked: RequestT, request: Request) -> RequestT:
    """The request with the id that the header gives, where its body gives none; the answer echoes the body's."""
    request.state.request_id = asked.request_id
    key = request.headers.get(IDEMPOTENCY_KEY)
    if asked.request_id is not None or not key:
        return asked
    return replace(asked, request_id=check_request_id(key))


def _item_body(item: SessionItem) -> bytes:
    return strictjson.dumps(asdict(item))
