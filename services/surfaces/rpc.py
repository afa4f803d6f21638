"""OpenEnv's JSON-RPC: its methods, the same over HTTP `/mcp`, on its socket, and in `mcp` frames on `/ws`.

    openenv/session/create   a session with its first episode begun, or the one that the path or socket names
    openenv/session/close    ends one that was made so, or by MCP's `initialize`; another is its maker's to end
    tools/list, tools/call   in the session that params, path or socket name, else in one of this call only

A call that names an unknown session is refused, also one that only lists: that is how a lost session is loud.
"""

from __future__ import annotations

from typing import Any

from metagame.core.session import check_session_id
from metagame.errors import InvalidAction, InvalidParams, InvalidRequest, SessionLost, UnknownMethod
from metagame.value import value
from metagame.wire.jsonrpc import Call
from metagame.wire.tools import decode_tool_call, explained, mcp_tool, openenv_result

from ..attachment import Attachment
from ..engine import Engine
from ..meter.layout import OPERATIONS
from .naming import derived_session

SURFACE = "mcp"


@value
class Caller:
    """Where a call comes from: the session that path, header, query or socket names, and the socket that holds it."""

    named: str | None = None
    request_id: str | None = None
    attachment: Attachment | None = None
    begins: bool = True
    """Whether a tool's call begins the first episode of a session."""


def operation_of(call: Call | None) -> str:
    """How a call of either dialect is counted; one that cannot be read, or is no method here, as another."""
    method = "" if call is None else call.method.removeprefix("openenv/")
    return method if method in OPERATIONS[SURFACE] and method != "connect" else "other"


async def carry_out(engine: Engine, call: Call, caller: Caller) -> dict[str, Any]:
    """The result of a call; raises what metagame.errors lists."""
    try:
        return await _carry_out(engine, call, caller)
    except InvalidAction as wrong:
        raise InvalidAction(explained(wrong), **wrong.fields) from None


async def _carry_out(engine: Engine, call: Call, caller: Caller) -> dict[str, Any]:
    match call.method:
        case "openenv/session/create":
            return {"session_id": await _create(engine, caller)}
        case "openenv/session/close":
            return await _close(engine, call.params, caller)
        case "tools/list":
            session_id = _session_of(call.params, caller.named)
            if session_id is not None and caller.attachment is None:
                await _known(engine, session_id)
            return {"tools": [mcp_tool(tool) for tool in engine.tools()]}
        case "tools/call":
            session_id = _session_of(call.params, caller.named)
            asked = decode_tool_call(call.params, caller.request_id)
            try:
                result = await engine.call(session_id, asked, caller.attachment, begins=caller.begins)
            except SessionLost:
                raise _unknown(session_id) from None
            return openenv_result(result)
    message = f"Method not found: {call.method[:200]}"
    raise UnknownMethod(message)


async def _create(engine: Engine, caller: Caller) -> str:
    if caller.attachment is not None:
        return caller.attachment.session_id
    item, _ = await engine.make(caller.named or derived_session("mcp", caller.request_id), begun=True)
    return item.session_id


async def _close(engine: Engine, params: dict[str, Any], caller: Caller) -> dict[str, Any]:
    session_id = params.get("session_id")
    if not isinstance(session_id, str) or not session_id:
        message = "Invalid params - 'session_id' is required"
        raise InvalidParams(message)
    if caller.attachment is None:
        _session_of(params, caller.named)
    elif session_id == caller.attachment.session_id:
        message = "Cannot close active WebSocket-managed session via MCP method"
        raise InvalidRequest(message)
    if not await engine.end_for_agent(check_session_id(session_id)):
        raise _unknown(session_id)
    return {"session_id": session_id, "closed": True}


def _session_of(params: dict[str, Any], named: str | None) -> str | None:
    """The session that a call is for; raises InvalidParams where params and path or socket name two."""
    session_id = params.get("session_id")
    if session_id is None or session_id == "":
        return named
    if not isinstance(session_id, str):
        message = "Invalid params - 'session_id' must be a string"
        raise InvalidParams(message)
    if named is not None and session_id != named:
        message = "Invalid params - 'session_id' is not the session that this path, header or socket names"
        raise InvalidParams(message)
    return check_session_id(session_id)


async def _known(engine: Engine, session_id: str) -> None:
    try:
        await engine.state(session_id)
    except SessionLost:
        raise _unknown(session_id) from None


def _unknown(session_id: str | None) -> SessionLost:
    message = f"Unknown session_id: {session_id}"
    return SessionLost(message)
