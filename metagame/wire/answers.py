"""Answers on the wire: encoded by a server, decoded by a client.

On a socket a top-level `metadata` stands only where it is not empty (typed clients since
OpenEnv 0.4.2 crash on null); over HTTP it always stands. Reward and done are at top level.
"""

from __future__ import annotations

from typing import Any

from metagame.core import strictjson
from metagame.errors import BY_REASON, MetaGameError, ProtocolError, outward
from metagame.games import Observation
from metagame.value import value

RESERVED = frozenset({"message", "code", "reason"})


@value
class StateAnswer:
    """Where a session stands; `episode_id` is None where no episode runs."""

    episode_id: str | None
    step_count: int


Answer = Observation | StateAnswer


def observation_frame(answer: Observation, request_id: str | None = None) -> bytes:
    """The `observation` frame of a reset or step."""
    return _frame("observation", observation_object(answer), request_id)


def packed_frame(answer: Observation, request_id: str | None = None) -> bytes:
    """`observation_frame` of an answer that was packed, as a step's is: what JSON cannot say was refused there."""
    return strictjson.dumps_unchecked(_framed("observation", observation_object(answer), request_id))


def state_frame(answer: StateAnswer, request_id: str | None = None) -> bytes:
    """The `state` frame."""
    return _frame("state", _state(answer), request_id)


def mcp_frame(reply: dict[str, Any], request_id: str | None = None) -> bytes:
    """The `mcp` frame: a JSON-RPC answer to the JSON-RPC call in a frame."""
    return _frame("mcp", reply, request_id)


def error_frame(error: MetaGameError, request_id: str | None = None) -> bytes:
    """The `error` frame: message, code, reason, and the error's own fields."""
    row = outward(error)
    data = {"message": error.message, "code": row.code, "reason": row.reason, **error.fields}
    return _frame("error", data, request_id)


def observation_body(answer: Observation, request_id: str | None = None) -> bytes:
    """The HTTP body of a reset or step."""
    body = {"metadata": None, **observation_object(answer)}
    if request_id is not None:
        body["request_id"] = request_id
    return strictjson.dumps(body)


def state_body(answer: StateAnswer) -> bytes:
    """The HTTP body of a state."""
    return strictjson.dumps(_state(answer))


def error_body(error: MetaGameError, request_id: str | None = None) -> bytes:
    """The HTTP body of an error; `detail` is pydantic's list where there is one, else the message."""
    row = outward(error)
    fields = dict(error.fields)
    body: dict[str, Any] = {"detail": fields.pop("errors", error.message), "code": row.code, "reason": row.reason}
    if request_id is not None:
        body["request_id"] = request_id
    return strictjson.dumps(body | fields)


def decode_frame(text: str | bytes) -> tuple[Answer, str | None]:
    """The answer in a frame and the request id it names; raises the error in an error frame."""
    frame = _object(text)
    data = frame.get("data")
    if not isinstance(data, dict):
        raise _unreadable()
    request_id = frame.get("request_id")
    match frame.get("type"):
        case "observation":
            return decode_observation(data), request_id
        case "state":
            return decode_state(data), request_id
        case "error":
            raise decode_error(data.get("reason"), str(data.get("message", "")), data)
    raise _unreadable()


def decode_observation(data: dict[str, Any]) -> Observation:
    """The observation in a frame's data or an HTTP body."""
    observation = data.get("observation")
    if not isinstance(observation, dict):
        raise _unreadable()
    fields = dict(observation)
    metadata = fields.pop("metadata", None) or {}
    return Observation(fields, data.get("reward"), bool(data.get("done", False)), metadata)


def decode_state(data: dict[str, Any]) -> StateAnswer:
    """The state in a frame's data or an HTTP body."""
    step_count = data.get("step_count")
    if not isinstance(step_count, int):
        raise _unreadable()
    return StateAnswer(data.get("episode_id"), step_count)


def decode_body(body: bytes) -> dict[str, Any]:
    """The JSON object in an HTTP body; raises ProtocolError."""
    return _object(body)


def decode_error(reason: str | None, message: str, data: dict[str, Any]) -> MetaGameError:
    """The typed error of an error answer; one of no known reason is a ProtocolError."""
    kind = BY_REASON.get(reason or "", ProtocolError)
    fields = {key: value for key, value in data.items() if key not in RESERVED | {"detail", "request_id"}}
    return kind(message, **fields)


def error_of_body(body: bytes) -> MetaGameError:
    """The typed error of an HTTP error body."""
    data = _object(body)
    detail = data.get("detail")
    if isinstance(detail, list):
        return decode_error(data.get("reason"), "Invalid message", {**data, "errors": detail})
    return decode_error(data.get("reason"), str(detail), data)


def observation_object(answer: Observation) -> dict[str, Any]:
    """An observation as a frame's data; a top-level `metadata` only where it is not empty."""
    data: dict[str, Any] = {
        "observation": {"metadata": answer.metadata, **answer.fields},
        "reward": answer.reward,
        "done": answer.done,
    }
    if answer.metadata:
        data["metadata"] = answer.metadata
    return data


def _frame(kind: str, data: dict[str, Any], request_id: str | None) -> bytes:
    return strictjson.dumps(_framed(kind, data, request_id))


def _framed(kind: str, data: dict[str, Any], request_id: str | None) -> dict[str, Any]:
    if request_id is None:
        return {"type": kind, "data": data}
    return {"type": kind, "data": data, "request_id": request_id}


def _state(answer: StateAnswer) -> dict[str, Any]:
    return {"episode_id": answer.episode_id, "step_count": answer.step_count}


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        value = strictjson.loads(text)
    except ValueError:
        raise _unreadable() from None
    if not isinstance(value, dict):
        raise _unreadable()
    return value


def _unreadable() -> ProtocolError:
    message = "The server's answer is not one of Metagame's. Is base_url a Metagame server's address?"
    return ProtocolError(message)
