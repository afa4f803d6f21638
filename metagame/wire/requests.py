"""Requests on the wire: decoded by a server, encoded by a client.

The shapes are OpenEnv 0.10's, with three optional additions at top level: `request_id`, `expect`
and, in frames only, `traceparent` (W3C Trace Context; over HTTP it is a header). Errors are the
caller's, in OpenEnv's form: pydantic's list, without its `url`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metagame.core import strictjson
from metagame.core.session import Expect, Kind
from metagame.errors import InvalidAction, InvalidJson, InvalidRequest, UnknownFrameType
from metagame.value import value

MAX_SEED = 2**63 - 1
MAX_REQUEST_ID = 256
MAX_DEPTH = 100
"""Levels of arrays and objects in a request: whatever is taken can also be stored and sent back."""
_FLAT = 2 * MAX_DEPTH
"""Characters or bytes of JSON that cannot be deeper, since each level takes two."""
_SHOWN = 200
_LISTED = 20
"""Mistakes that an error answer lists: it stays short, however long the request."""

Seed = Annotated[int, Field(ge=0, le=MAX_SEED, description="Seed of the episode; drawn where absent")]
Name = Annotated[str, Field(min_length=1, max_length=256)]
_RequestId = Annotated[
    str | None, Field(min_length=1, max_length=MAX_REQUEST_ID, description="Makes the request safe to send again")
]
ModelT = TypeVar("ModelT", bound=BaseModel)


@value
class ResetRequest:
    """Start an episode. `options` are the game's own fields."""

    seed: int | None = None
    episode_id: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    request_id: str | None = None
    expect: Expect | None = None
    traceparent: str | None = None

    kind = Kind.RESET

    @property
    def payload(self) -> dict[str, Any]:
        """The command as sent, as one JSON object: a reset frame's `data`."""
        named = {"seed": self.seed, "episode_id": self.episode_id}
        return self.options | {key: value for key, value in named.items() if value is not None}


@value
class StepRequest:
    """Take an action, not yet validated by the game."""

    action: dict[str, Any]
    request_id: str | None = None
    expect: Expect | None = None
    traceparent: str | None = None

    kind = Kind.STEP

    @property
    def payload(self) -> dict[str, Any]:
        """The command as sent: a step frame's `data`."""
        return self.action


@value
class StateRequest:
    """Ask where the session stands."""

    request_id: str | None = None
    traceparent: str | None = None

    kind = Kind.STATE


@value
class CloseRequest:
    """Leave, ending a session that this client brought into being."""


@value
class McpRequest:
    """A JSON-RPC call in a frame, not yet validated; see jsonrpc.py. With a request id it happens once."""

    call: dict[str, Any]
    request_id: str | None = None


Request = ResetRequest | StepRequest | StateRequest | CloseRequest
"""What our own client sends."""


class ExpectModel(BaseModel):
    """Where the session must stand for the request to be carried out."""

    model_config = ConfigDict(extra="forbid")

    episode_id: str | None
    step_count: Annotated[int, Field(ge=0)]


class _Addressed(BaseModel):
    request_id: _RequestId = None
    expect: Annotated[ExpectModel | None, Field(description="Refuse unless the session stands exactly here")] = None

    def expected(self) -> Expect | None:
        return None if self.expect is None else Expect(self.expect.episode_id, self.expect.step_count)


class _Episode(BaseModel):
    seed: Seed | None = None
    episode_id: Name | None = None


class ResetBody(_Episode, _Addressed):
    """Body of `POST /reset`; other fields are the game's options."""

    model_config = ConfigDict(extra="allow")


class StepBody(_Addressed):
    """Body of `POST /step`."""

    action: dict[str, Any]
    timeout_s: Annotated[
        float | None, Field(gt=0, description="Taken for OpenEnv's clients; a step here never runs long")
    ] = None


class MakeBody(BaseModel):
    """Body of `POST /sessions`, which may be empty."""

    session_id: Annotated[str | None, Field(description="Name of the session; made up where absent")] = None


class _ResetData(_Episode):
    model_config = ConfigDict(extra="allow")


class _Frame(BaseModel):
    model_config = ConfigDict(extra="forbid")

    traceparent: str | None = None


class _ResetFrame(_Frame, _Addressed):
    type: Literal["reset"]
    data: dict[str, Any] = Field(default_factory=dict)


class _StepFrame(_Frame, _Addressed):
    type: Literal["step"]
    data: dict[str, Any]


class _StateFrame(_Frame):
    type: Literal["state"]
    request_id: str | None = None


class _CloseFrame(_Frame):
    type: Literal["close"]
    request_id: str | None = None


class _McpFrame(_Frame):
    type: Literal["mcp"]
    data: dict[str, Any]
    request_id: _RequestId = None


_FRAMES: dict[str, type[_Frame]] = {
    "reset": _ResetFrame,
    "step": _StepFrame,
    "state": _StateFrame,
    "close": _CloseFrame,
    "mcp": _McpFrame,
}


def parse_frame(text: str) -> dict[str, Any]:
    """The frame's JSON object; raises InvalidJson or InvalidRequest."""
    try:
        frame = strictjson.loads(text)
        if len(text) > _FLAT:
            _check_depth(frame, text.count("{") + text.count("["))
    except ValueError:
        why, at = strictjson.mistake(text)
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        message = f"Invalid JSON: {why}: line {line} column {column} (char {at})"
        raise InvalidJson(message) from None
    if not isinstance(frame, dict):
        message = f"Invalid message: a frame is a JSON object, not {_json_type(frame)}"
        raise InvalidRequest(message)
    return frame


def frame_request_id(frame: dict[str, Any]) -> str | None:
    """The request id of a frame that may be wrong in other ways, for its error answer."""
    request_id = frame.get("request_id")
    return request_id if isinstance(request_id, str) and len(request_id) <= MAX_REQUEST_ID else None


def decode_frame(frame: dict[str, Any]) -> Request | McpRequest:
    """The request in a frame; raises UnknownFrameType or InvalidRequest with `errors`."""
    step = plain_step(frame)
    if step is not None:
        return step
    name = frame.get("type", "")
    shape = _FRAMES.get(name) if isinstance(name, str) else None
    if shape is None:
        message = f"Unknown message type: {str(name)[:_SHOWN]}"
        raise UnknownFrameType(message)
    checked = _validate(shape, frame)
    if isinstance(checked, _StepFrame):
        return StepRequest(checked.data, checked.request_id, checked.expected(), checked.traceparent)
    if isinstance(checked, _ResetFrame):
        return _reset_request(_validate(_ResetData, checked.data), checked, checked.traceparent)
    if isinstance(checked, _StateFrame):
        return StateRequest(checked.request_id, checked.traceparent)
    if isinstance(checked, _McpFrame):
        return McpRequest(checked.data, checked.request_id)
    return CloseRequest()


def plain_step(frame: dict[str, Any]) -> StepRequest | None:
    """The step in a frame as nearly all are, known by sight; None where `decode_frame` must look, at a cost."""
    data, request_id, fields = frame.get("data"), frame.get("request_id"), len(frame)
    if frame.get("type") != "step" or type(data) is not dict:
        return None
    if request_id is not None:
        if type(request_id) is not str or not 1 <= len(request_id) <= MAX_REQUEST_ID:
            return None
        fields -= 1
    if fields == 2:
        return StepRequest(data, request_id)
    expect = frame.get("expect")
    if fields != 3 or expect is None:
        return None
    if type(expect) is dict and len(expect) == 2:
        episode_id, step_count = expect.get("episode_id"), expect.get("step_count")
        if type(episode_id) is str and type(step_count) is int and step_count >= 0:
            return StepRequest(data, request_id, Expect(episode_id, step_count))
    return None


def decode_reset_body(body: bytes) -> ResetRequest:
    """The request in the body of `POST /reset`, which may be empty."""
    checked = _validate(ResetBody, _parse_body(body) if body.strip() else {}, "body")
    return _reset_request(checked, checked)


def decode_step_body(body: bytes) -> StepRequest:
    """The request in the body of `POST /step`."""
    checked = decode_body(StepBody, body)
    return StepRequest(checked.action, checked.request_id, checked.expected())


def decode_make_body(body: bytes) -> str | None:
    """The session id in the body of `POST /sessions`, if there is one."""
    return _validate(MakeBody, _parse_body(body), "body").session_id if body.strip() else None


def decode_body(shape: type[ModelT], body: bytes) -> ModelT:
    """Any other body, which may not be empty."""
    if not body.strip():
        raise invalid([{"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}])
    return _validate(shape, _parse_body(body), "body")


def check_request_id(request_id: str) -> str:
    """A request id from outside a body; raises InvalidRequest."""
    if not 1 <= len(request_id) <= MAX_REQUEST_ID:
        text = f"A request id is 1 to {MAX_REQUEST_ID} characters"
        raise invalid([{"type": "string_length", "loc": ["header", "Idempotency-Key"], "msg": text}])
    return request_id


@lru_cache
def _validator(action_type: type[BaseModel]) -> Callable[[Any], Any]:
    """Kept, since a class of pydantic's is slow to say what it has."""
    return action_type.__pydantic_validator__.validate_python


def validate_action(action_type: type[ModelT], action: dict[str, Any]) -> ModelT:
    """The game's action; raises InvalidAction that names the fields."""
    try:
        model: ModelT = _validator(action_type)(action)
    except ValidationError as wrong:
        message = "Invalid message"
        raise InvalidAction(message, errors=_errors(wrong)) from None
    return model


def encode_frame(request: Request) -> str:
    """The frame of a request, as a client sends it."""
    if isinstance(request, CloseRequest):
        return '{"type":"close"}'
    frame: dict[str, Any] = {"type": request.kind.value}
    if not isinstance(request, StateRequest):
        frame["data"] = request.payload
    if request.traceparent is not None:
        frame["traceparent"] = request.traceparent
    return strictjson.dumps(frame | _addressed(request)).decode()


def encode_body(request: ResetRequest | StepRequest) -> bytes:
    """The HTTP body of a request, as a client sends it."""
    body = {"action": request.action} if isinstance(request, StepRequest) else request.payload
    return strictjson.dumps(body | _addressed(request))


def invalid(errors: list[dict[str, Any]]) -> InvalidRequest:
    """The error for a malformed frame or body."""
    message = "Invalid message"
    return InvalidRequest(message, errors=errors)


def not_an_object(value: Any) -> InvalidRequest:
    """The error for a body that is no JSON object, as FastAPI words it."""
    text = "Input should be a valid dictionary or object to extract fields from"
    return invalid([{"type": "model_attributes_type", "loc": ["body"], "msg": text, "input": _shown(value)}])


def _reset_request(episode: _Episode, addressed: _Addressed, traceparent: str | None = None) -> ResetRequest:
    return ResetRequest(
        seed=episode.seed,
        episode_id=episode.episode_id,
        options=dict(episode.model_extra or {}),
        request_id=addressed.request_id,
        expect=addressed.expected(),
        traceparent=traceparent,
    )


def _addressed(request: ResetRequest | StepRequest | StateRequest) -> dict[str, Any]:
    added: dict[str, Any] = {}
    if request.request_id is not None:
        added["request_id"] = request.request_id
    if not isinstance(request, StateRequest) and request.expect is not None:
        added["expect"] = {
            "episode_id": request.expect.episode_id,
            "step_count": request.expect.step_count,
        }
    return added


def _parse_body(body: bytes) -> dict[str, Any]:
    try:
        value = strictjson.loads(body)
        if len(body) > _FLAT:
            _check_depth(value, body.count(b"{") + body.count(b"["))
    except ValueError:
        why, at = strictjson.mistake(body)
        error = {"type": "json_invalid", "loc": ["body", at], "msg": "JSON decode error", "input": {}}
        message = f"Invalid JSON: {why}"
        raise InvalidJson(message, errors=[error | {"ctx": {"error": why}}]) from None
    if not isinstance(value, dict):
        raise not_an_object(value)
    return value


def _check_depth(value: Any, opened: int) -> None:
    """Raise ValueError for what is too deep; where few signs open anything, it is spared the look inside."""
    if opened > MAX_DEPTH and strictjson.deeper_than(value, MAX_DEPTH):
        raise ValueError


def _validate(shape: type[ModelT], value: Any, *prefix: str) -> ModelT:
    try:
        # `model_validate` without its options, which cost half as much again as the check.
        model: ModelT = shape.__pydantic_validator__.validate_python(value)
    except ValidationError as wrong:
        raise invalid(_errors(wrong, *prefix)) from None
    return model


def _errors(wrong: ValidationError, *prefix: str) -> list[dict[str, Any]]:
    """Pydantic's list without urls and exception objects, and with what is long cut."""
    return [
        {"type": error["type"], "loc": [*prefix, *map(_shown, error["loc"])], "msg": error["msg"]}
        | {"input": _shown(error["input"])}
        | ({"ctx": {key: _shown(value) for key, value in error["ctx"].items()}} if "ctx" in error else {})
        for error in wrong.errors(include_url=False)[:_LISTED]
    ]


def _shown(value: Any) -> Any:
    """An input as an error may repeat it: whole where it is small, else its beginning."""
    try:
        if len(strictjson.dumps(value)) <= _SHOWN:
            return value
    except (TypeError, ValueError):
        pass
    return str(value)[:_SHOWN] + "…"


def _json_type(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
