"""The Model Context Protocol over Streamable HTTP: its methods, revisions and headers.

Revisions up to 2025-11-25 begin with `initialize`, whose answer's `Mcp-Session-Id` is a session id like
any other; since 2026-07-28 each request stands for itself, and path, `X-Session-ID` or query name the
session. Either way all there is of a session is in the store, so any worker answers any request. A call
that names no session has one of its own, which ends with the call.

It is written here, not taken from MCP's SDK: the SDK's server keeps what `initialize` began in the
process that answered it, or else hands out no session ids, and costs a worker 24 MB. Nothing is sent
unasked, so nothing is streamed: every answer is one JSON body.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from starlette.datastructures import Headers

from metagame.core.session import SESSION_ID
from metagame.errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    UNSUPPORTED_REVISION,
    EpisodeOver,
    GameFailed,
    HeaderMismatch,
    InvalidAction,
    InvalidParams,
    InvalidRequest,
    MetaGameError,
    NoEpisode,
    SessionLost,
    UnknownMethod,
    UnsupportedRevision,
    outward,
)
from metagame.games import tools_of
from metagame.wire.jsonrpc import Call
from metagame.wire.tools import decode_tool_call, mcp_failure, mcp_result, mcp_tool

from ..engine import Engine
from .naming import derived_session
from .rpc import SURFACE, Caller

HANDSHAKE = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Revisions that begin with `initialize`."""
STATELESS = ("2026-07-28",)
"""Revisions whose every request says all there is to know."""
SUPPORTED = [*HANDSHAKE, *STATELESS]
SESSION_HEADER, REVISION_HEADER = "mcp-session-id", "mcp-protocol-version"
METHOD_HEADER, NAME_HEADER = "mcp-method", "mcp-name"
META = "io.modelcontextprotocol/"
FRESH_MS = 300_000
"""How long a client may keep the list of tools: only a new release changes it."""
FOR_THE_AGENT = (InvalidAction, NoEpisode, EpisodeOver, GameFailed)
"""Errors told to the agent, as a tool's result: the rest are for whoever runs it."""
_BAD_REQUEST = {PARSE_ERROR, INVALID_REQUEST, UNSUPPORTED_REVISION}
_ENCODED = re.compile(r"=\?base64\?(.*)\?=")


def speaks_mcp(headers: Headers, call: Call | None) -> bool:
    """Whether a POST is MCP's own, and not OpenEnv's dialect: its clients say so in one of these ways."""
    if REVISION_HEADER in headers or SESSION_HEADER in headers or "text/event-stream" in headers.get("accept", ""):
        return True
    return call is not None and (call.method == "initialize" or META + "protocolVersion" in _meta(call))


def is_stateless(headers: Headers, call: Call | None) -> bool:
    """Whether a POST is of a revision without `initialize`."""
    return headers.get(REVISION_HEADER) in STATELESS or (call is not None and META + "protocolVersion" in _meta(call))


def status_of(error: MetaGameError, *, stateless: bool) -> int:
    """The HTTP status of an error's answer, as the revisions have it."""
    code = outward(error).rpc_code
    if stateless:
        not_found = code == METHOD_NOT_FOUND
        bad = code in _BAD_REQUEST | {INVALID_PARAMS, HEADER_MISMATCH}
    else:
        not_found = isinstance(error, SessionLost)
        bad = code in _BAD_REQUEST
    return 404 if not_found else 400 if bad else 200


class Exchange:
    """One call of MCP's."""

    def __init__(self, engine: Engine, call: Call, headers: Headers, caller: Caller) -> None:
        self.session_id = caller.named
        """The session that the answer tells."""
        self.began = False
        """Whether the answer carries `Mcp-Session-Id`."""
        self.stateless = is_stateless(headers, call)
        self._engine = engine
        self._call = call
        self._headers = headers
        self._caller = caller

    async def result(self) -> dict[str, Any]:
        """The result of the call; raises what metagame.errors lists."""
        try:
            return await self._result()
        except SessionLost as lost:
            then = "Whoever made it has to make another." if self.stateless else "Initialize again."
            message = f"This session does not exist, or no more. {then}"
            raise SessionLost(message, **lost.fields) from None

    async def _result(self) -> dict[str, Any]:
        if self.stateless:
            check_stateless(self._call, self._headers)
            return self._stamped(await self._stateless())
        if self._call.method == "initialize":
            return await self._initialize()
        check_revision(self._headers.get(REVISION_HEADER, HANDSHAKE[1]))
        self.session_id = session_of(self._headers, self.session_id)
        return await self._handshake()

    async def _stateless(self) -> dict[str, Any]:
        fresh = {"ttlMs": FRESH_MS, "cacheScope": "public"}
        match self._call.method:
            case "server/discover":
                about = {"capabilities": self._capabilities(), "instructions": self._engine.game.description}
                return {"supportedVersions": SUPPORTED, **about, **fresh}
            case "tools/list":
                return await self._list() | fresh
            case "tools/call":
                return await self._call_tool()
        raise self._unknown()

    async def _handshake(self) -> dict[str, Any]:
        match self._call.method:
            case "ping":
                await self._check_known()
                return {}
            case "tools/list":
                return await self._list()
            case "tools/call":
                return await self._call_tool()
        await self._check_known()
        raise self._unknown()

    async def _initialize(self) -> dict[str, Any]:
        asked = self._call.params.get("protocolVersion")
        if not isinstance(asked, str):
            message = "Invalid params - 'protocolVersion' is required"
            raise InvalidParams(message)
        item, _ = await self._engine.make(
            self.session_id or derived_session("mcp", self._caller.request_id), begun=True
        )
        self.session_id, self.began = item.session_id, True
        return {
            "protocolVersion": asked if asked in HANDSHAKE else HANDSHAKE[-1],
            "capabilities": self._capabilities(),
            "serverInfo": self._server_info(),
            "instructions": self._engine.game.description,
        }

    async def _list(self) -> dict[str, Any]:
        await self._check_known()
        return {"tools": [mcp_tool(tool) for tool in tools_of(self._engine.game)]}

    async def _call_tool(self) -> dict[str, Any]:
        asked = decode_tool_call(self._call.params, self._caller.request_id)
        try:
            return mcp_result(await self._engine.call(self.session_id, asked))
        except FOR_THE_AGENT as error:
            self._engine.meter.failed(SURFACE, "tools/call", error)
            return mcp_failure(error)

    async def _check_known(self) -> None:
        if self.session_id is not None:
            await self._engine.state(self.session_id)

    def _capabilities(self) -> dict[str, Any]:
        return {"tools": {"listChanged": False}} if tools_of(self._engine.game) else {}

    def _server_info(self) -> dict[str, Any]:
        game = self._engine.game
        return {"name": game.name, "version": game.version}

    def _stamped(self, result: dict[str, Any]) -> dict[str, Any]:
        meta = {**result.get("_meta", {}), META + "serverInfo": self._server_info()}
        return {"resultType": "complete", **result, "_meta": meta}

    def _unknown(self) -> UnknownMethod:
        message = f"Method not found: {self._call.method[:200]}"
        return UnknownMethod(message)


def session_of(headers: Headers, named: str | None) -> str | None:
    """The session that a request names, by `Mcp-Session-Id` where nothing else does."""
    session_id = headers.get(SESSION_HEADER)
    if session_id is None:
        return named
    if named is not None and session_id != named:
        message = "This request names two sessions: by Mcp-Session-Id, and by its path, X-Session-ID or query."
        raise InvalidRequest(message)
    if SESSION_ID.fullmatch(session_id) is None:
        message = "This session does not exist: its id is none of this server's. Initialize again."
        raise SessionLost(message)
    return session_id


def check_revision(revision: str) -> None:
    """Raise UnsupportedRevision unless it is one of ours."""
    if revision not in SUPPORTED:
        message = f"Unsupported protocol version: {revision[:50]}"
        raise UnsupportedRevision(message, supported=SUPPORTED, requested=revision[:50])


def check_stateless(call: Call, headers: Headers) -> None:
    """Hold a request of a stateless revision against what it must carry, and its headers against its body."""
    meta = _meta(call)
    missing = [key for key in (META + "protocolVersion", META + "clientCapabilities") if key not in meta]
    if missing:
        message = f"Invalid params - '_meta' lacks {' and '.join(missing)}"
        raise InvalidParams(message)
    mirrored = {REVISION_HEADER: meta[META + "protocolVersion"], METHOD_HEADER: call.method}
    if call.method == "tools/call":
        mirrored[NAME_HEADER] = call.params.get("name")
    for header, meant in mirrored.items():
        if len(headers.getlist(header)) > 1:
            message = f"Header mismatch: the header {header} stands there more than once"
            raise HeaderMismatch(message)
        said = _decoded(headers.get(header, "")) if header == NAME_HEADER else headers.get(header)
        if isinstance(meant, str) and said != meant:
            message = f"Header mismatch: the header {header} is missing, or not what the body says"
            raise HeaderMismatch(message)
    if not isinstance(meta[META + "protocolVersion"], str):
        message = "Invalid params - the protocol version is a string"
        raise InvalidParams(message)
    check_revision(meta[META + "protocolVersion"])


def _meta(call: Call) -> dict[str, Any]:
    meta = call.params.get("_meta")
    return meta if isinstance(meta, dict) else {}


def _decoded(value: str) -> str | None:
    """A header's value, decoded where it says that it is in Base64; None where that is not so."""
    encoded = _ENCODED.fullmatch(value)
    if encoded is None:
        return value
    try:
        return base64.b64decode(encoded[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
