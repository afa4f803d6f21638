"""Every error that leaves Metagame, and the one table that says how each looks outside.

    MetaGameError
    ├── InvalidRequest             the request itself is wrong; sending it again cannot help
    │   ├── InvalidJson            not JSON text
    │   ├── UnknownFrameType       a frame whose `type` is none of ours
    │   ├── InvalidAction          the game does not take this action
    │   ├── InvalidSessionId       not 1-128 characters of A-Z a-z 0-9 . _ -
    │   ├── TooLarge               a body or frame over the byte limit
    │   ├── RequestConflict        this request id was used for another command
    │   ├── UnknownMethod          a JSON-RPC method that is none of ours
    │   ├── InvalidParams          the params of a JSON-RPC method are wrong
    │   ├── UnknownTool            the game has no tool of this name
    │   ├── Unauthorized           the server wants an API key, and this request carries none that it knows
    │   ├── Forbidden              what only operators may see or do
    │   ├── HeaderMismatch         a header of an MCP request says something else than its body
    │   └── UnsupportedRevision    a revision of MCP that is not spoken here
    ├── SessionError               the session does not stand where the request needs it
    │   ├── NoEpisode              a step where no episode runs
    │   ├── EpisodeOver            a step after `done`
    │   ├── SessionLost            the session does not exist (any more)
    │   ├── SessionTakenOver       a newer socket owns the session
    │   ├── SessionMoved           the session is not at the episode and step expected
    │   └── AnswerForgotten        committed before, but the answer is no longer kept
    ├── NoTools                    the game has no tools at all
    ├── GameFailed                 the game's own code raised; nothing was committed
    ├── CapacityReached            the pool is full
    ├── Unavailable                store or server cannot be reached; says whether to retry
    ├── ProtocolError              (client) the server answered what no server of ours answers
    └── ContainerFailed            (client) no container of an image could be started, or removed

Here live names, fields and codes; no I/O and no wording of single cases. `fields` are the
machine-readable part: they travel beside the message, so nobody has to parse prose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class MetaGameError(Exception):
    """Base of all errors here; `message` says what to do, `fields` what happened."""

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields

    @property
    def retryable(self) -> bool:
        """Whether the same request, sent again, may succeed without any change."""
        return bool(self.fields.get("retryable", False))


class InvalidRequest(MetaGameError):
    """The request is malformed; `errors` lists what, where it is known."""


class InvalidJson(InvalidRequest):
    """The text is not JSON."""


class UnknownFrameType(InvalidRequest):
    """The frame's `type` is missing or unknown."""


class InvalidAction(InvalidRequest):
    """The game refused the action; `errors` names the fields."""


class InvalidSessionId(InvalidRequest):
    """The session id is malformed."""


class TooLarge(InvalidRequest):
    """The body or frame is over `limit_bytes`."""


class RequestConflict(InvalidRequest):
    """The request id was already used for another command."""


class UnknownMethod(InvalidRequest):
    """The JSON-RPC method is none of ours."""


class InvalidParams(InvalidRequest):
    """A JSON-RPC method's params are missing or wrong."""


class UnknownTool(InvalidRequest):
    """The game has no tool of this name."""


class Unauthorized(InvalidRequest):
    """The server wants an API key, and the request carries none that it knows."""


class Forbidden(InvalidRequest):
    """Only operators may see or do this."""


class HeaderMismatch(InvalidRequest):
    """A header that mirrors the body of an MCP request is missing, doubled or says something else."""


class UnsupportedRevision(InvalidRequest):
    """The revision of MCP is not spoken here; `supported` lists those that are, `requested` is the one asked for."""


class SessionError(MetaGameError):
    """The session does not stand where the request needs it."""


class NoEpisode(SessionError):
    """A step where no episode runs: reset first."""


class EpisodeOver(SessionError):
    """A step after the episode ended: reset first."""


class SessionLost(SessionError):
    """The session does not exist: it ended, expired, or was never made."""


class SessionTakenOver(SessionError):
    """A newer socket attached to the session."""


class SessionMoved(SessionError):
    """The session stands at another `episode_id` or `step_count` than expected."""


class AnswerForgotten(SessionError):
    """The request was committed as `step`; its answer is no longer kept."""


class NoTools(MetaGameError):
    """The game declares no tools, so there is nothing to list or call."""


class GameFailed(MetaGameError):
    """The game raised an error of its own; nothing was committed."""


class CapacityReached(MetaGameError):
    """The pool is full: `active_sessions` of `max_sessions`."""


class Unavailable(MetaGameError):
    """Store or server cannot be reached; `retryable` and `outcome` say what is known."""


class ProtocolError(MetaGameError):
    """The server's answer cannot be understood."""


class ContainerFailed(MetaGameError):
    """A container did not start, get ready, keep running or go away; `cause` says why, `log` how its log ended.

    `cause` is docker_missing, engine_unreachable, image_missing, port_taken, not_started, exited,
    not_ready, other_server or not_removed.
    """

    @property
    def cause(self) -> str:
        """Why, in one word for programs."""
        return str(self.fields["cause"])

    @property
    def log(self) -> str:
        """The end of the container's log; empty where there is none."""
        return str(self.fields.get("log", ""))


@dataclass(frozen=True, slots=True)
class Outward:
    """How one error looks outside: its stable word, frame code, HTTP status, JSON-RPC code, close code."""

    reason: str
    code: str
    status: int
    rpc_code: int
    read_status: int | None = None
    """HTTP status for a GET, where it differs."""
    close_code: int | None = None
    """Set where the error also closes the socket."""


PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
"""JSON-RPC's own codes."""
SERVER_ERROR = -32000
"""What OpenEnv answers where a session cannot be had."""
HEADER_MISMATCH, UNSUPPORTED_REVISION = -32020, -32022
"""MCP's own codes, since its revision 2026-07-28."""

TABLE: dict[type[MetaGameError], Outward] = {
    InvalidRequest: Outward("invalid_request", "VALIDATION_ERROR", 422, INVALID_REQUEST),
    InvalidJson: Outward("invalid_json", "INVALID_JSON", 422, PARSE_ERROR),
    UnknownFrameType: Outward("unknown_frame_type", "UNKNOWN_TYPE", 422, INVALID_REQUEST),
    InvalidAction: Outward("invalid_action", "VALIDATION_ERROR", 422, INVALID_PARAMS),
    InvalidSessionId: Outward("invalid_session_id", "VALIDATION_ERROR", 400, INVALID_PARAMS),
    TooLarge: Outward("too_large", "VALIDATION_ERROR", 413, INVALID_REQUEST, close_code=1009),
    RequestConflict: Outward("request_conflict", "VALIDATION_ERROR", 409, INVALID_PARAMS),
    UnknownMethod: Outward("unknown_method", "VALIDATION_ERROR", 404, METHOD_NOT_FOUND),
    InvalidParams: Outward("invalid_params", "VALIDATION_ERROR", 422, INVALID_PARAMS),
    UnknownTool: Outward("unknown_tool", "VALIDATION_ERROR", 422, INVALID_PARAMS),
    Unauthorized: Outward("unauthorized", "UNAUTHORIZED", 401, INVALID_REQUEST),
    Forbidden: Outward("forbidden", "FORBIDDEN", 403, INVALID_REQUEST),
    HeaderMismatch: Outward("header_mismatch", "VALIDATION_ERROR", 400, HEADER_MISMATCH),
    UnsupportedRevision: Outward("unsupported_revision", "VALIDATION_ERROR", 400, UNSUPPORTED_REVISION),
    SessionError: Outward("session_error", "SESSION_ERROR", 409, SERVER_ERROR),
    NoEpisode: Outward("no_episode", "SESSION_ERROR", 409, SERVER_ERROR),
    EpisodeOver: Outward("episode_over", "SESSION_ERROR", 409, SERVER_ERROR),
    SessionLost: Outward("session_lost", "SESSION_ERROR", 409, INVALID_PARAMS, read_status=404),
    SessionTakenOver: Outward("session_taken_over", "SESSION_ERROR", 409, SERVER_ERROR, close_code=4001),
    SessionMoved: Outward("session_moved", "SESSION_ERROR", 409, SERVER_ERROR),
    AnswerForgotten: Outward("answer_forgotten", "SESSION_ERROR", 409, SERVER_ERROR),
    NoTools: Outward("no_tools", "EXECUTION_ERROR", 501, INTERNAL_ERROR),
    GameFailed: Outward("game_failed", "EXECUTION_ERROR", 500, INTERNAL_ERROR),
    CapacityReached: Outward("capacity_reached", "CAPACITY_REACHED", 503, SERVER_ERROR),
    Unavailable: Outward("unavailable", "SESSION_ERROR", 503, SERVER_ERROR),
}
"""Total over all errors a server sends; ProtocolError and ContainerFailed are the client's own and have no row."""

BY_REASON: dict[str, type[MetaGameError]] = {row.reason: kind for kind, row in TABLE.items()}


def outward(error: MetaGameError) -> Outward:
    """The table's row for an error; the nearest listed ancestor's for a subclass."""
    for kind in type(error).__mro__:
        if kind in TABLE:
            return TABLE[kind]
    message = f"{type(error).__name__} is never sent by a server"
    raise TypeError(message)
