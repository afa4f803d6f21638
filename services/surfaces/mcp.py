"""Agents' way in: `/mcp` and `/sessions/{session_id}/mcp`, for OpenEnv's JSON-RPC and for MCP itself.

Both dialects have the same tools, and each call of one is a step of a session. Which of the two a POST
speaks, its headers say, or `initialize`; see rpc.py and streamable.py for what they mean. The
cookie is not read here: an agent has no browser.
"""

from __future__ import annotations

import re

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from metagame.core.codec import NewerRecord
from metagame.errors import InvalidRequest, MetaGameError
from metagame.wire.jsonrpc import Call, Reply, decode_call, encode_reply, error_reply, result_reply
from metagame.wire.requests import check_request_id

from ..engine import Engine
from ..lifecycle import Lifecycle
from ..meter import Timed
from . import describe
from .bodies import read_body
from .http import IDEMPOTENCY_KEY
from .naming import named_session, session_headers, tell
from .origins import Origins
from .presence import check_present
from .problems import JSON
from .rpc import SURFACE, Caller, carry_out, operation_of
from .streamable import (
    REVISION_HEADER,
    SESSION_HEADER,
    STATELESS,
    Exchange,
    is_stateless,
    session_of,
    speaks_mcp,
    status_of,
)

PATHS = ("/mcp", "/sessions/{session_id}/mcp")
_NOT_TAKEN = re.compile(r"q\s*=\s*0(\.0*)?\s*(;|$)")
"""A range of media types that the client names in order to refuse it."""


class McpSurface:
    """The HTTP handlers."""

    def __init__(self, engine: Engine, lifecycle: Lifecycle, origins: Origins, *, max_body_bytes: int) -> None:
        self._engine = engine
        self._lifecycle = lifecycle
        self._origins = origins
        self._max_body_bytes = max_body_bytes

    def install(self, app: FastAPI) -> None:
        """Add the routes."""
        router = APIRouter(tags=["agents"])
        for path, named in zip(PATHS, (describe.BY_HEADER, describe.BY_PATH), strict=True):
            router.post(path, **describe.mcp(named))(self.post)
        router.delete(PATHS[0], **describe.mcp_end(describe.BY_HEADER))(self.delete)
        app.include_router(router)

    async def post(self, request: Request) -> Response:
        """Carry out one JSON-RPC call."""
        self._origins.check(request.scope)
        with self._engine.meter.timed(SURFACE, operation_of(None)) as timed:
            return await self._post(request, timed)

    async def _post(self, request: Request, timed: Timed) -> Response:
        body = await read_body(request, self._max_body_bytes)
        call: Call | None = None
        try:
            call = decode_call(body)
            timed.operation = operation_of(call)
            key = request.headers.get(IDEMPOTENCY_KEY)
            caller = Caller(named_session(request), check_request_id(key) if key else None)
            if caller.named is not None:
                tell(request, caller.named)
            if speaks_mcp(request.headers, call):
                return await self._exchange(request, call, caller)
            reply = result_reply(call, await carry_out(self._engine, call, caller))
        except MetaGameError as error:
            timed.failed(error)
            return self._refused(request, call, error)
        return self._json(request, reply)

    async def delete(self, request: Request) -> Response:
        """End the session that `initialize` began; one that somebody else made is its maker's to end."""
        self._origins.check(request.scope)
        await check_present(request)
        if request.headers.get(REVISION_HEADER) in STATELESS or named_session(request) is not None:
            raise HTTPException(405, "Method Not Allowed", {"allow": "POST"})
        session_id = session_of(request.headers, None)
        if session_id is None:
            raise HTTPException(400, "Mcp-Session-Id is required")
        try:
            ended = await self._engine.end_for_agent(session_id)
        except InvalidRequest:
            raise HTTPException(405, "Method Not Allowed", {"allow": "POST"}) from None
        if not ended:
            raise HTTPException(404, "Session not found")
        return Response(status_code=204)

    async def _exchange(self, request: Request, call: Call, caller: Caller) -> Response:
        _check_accept(request)
        if call.id is None:
            return Response(status_code=202)
        exchange = Exchange(self._engine, call, request.headers, caller)
        reply = result_reply(call, await exchange.result())
        if exchange.session_id is not None:
            tell(request, exchange.session_id)
        began = {SESSION_HEADER: exchange.session_id} if exchange.began and exchange.session_id else {}
        return self._json(request, reply, added=began)

    def _refused(self, request: Request, call: Call | None, error: MetaGameError) -> Response:
        status = 200
        if speaks_mcp(request.headers, call):
            status = status_of(error, stateless=is_stateless(request.headers, call))
        away = {"connection": "close"} if isinstance(error, NewerRecord) else {}
        return self._json(request, error_reply(error, call), status, away)

    def _json(self, request: Request, reply: Reply, status: int = 200, added: dict[str, str] | None = None) -> Response:
        headers = session_headers(request) | (added or {})
        if self._lifecycle.draining:
            headers["connection"] = "close"
        return Response(encode_reply(reply), status, headers, JSON)


def _check_accept(request: Request) -> None:
    ranges = [one.partition(";") for one in request.headers.get("accept", JSON).lower().split(",")]
    taken = {kind.strip() for kind, _, parameters in ranges if not _NOT_TAKEN.search(parameters)}
    if not taken & {JSON, "application/*", "*/*"}:
        raise HTTPException(406, f"Every answer is {JSON}")
