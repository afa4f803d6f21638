"""JSON-RPC 2.0 on the wire, as OpenEnv and the Model Context Protocol both speak it: one message at a time.

Here live the envelope and its errors; what a method means does not. An error's `data` carries the
error's reason and its own fields, so that programs need not read its prose.
"""

from __future__ import annotations

from typing import Any

from metagame.core import strictjson
from metagame.errors import InvalidJson, InvalidRequest, MetaGameError, outward
from metagame.value import value
from metagame.wire.requests import parse_frame

MEMBERS = frozenset({"jsonrpc", "method", "params", "id"})

Id = str | int | None
Reply = dict[str, Any]


@value
class Call:
    """A method to carry out. A notification has no id and wants no answer; an id of null is none either."""

    method: str
    params: dict[str, Any]
    id: Id = None


def decode_call(data: bytes | str) -> Call:
    """The call in a body or frame; raises InvalidJson, or InvalidRequest with `errors`."""
    try:
        message = parse_frame(data if isinstance(data, str) else data.decode())
    except UnicodeDecodeError:
        text = "Parse error: Text is not UTF-8"
        raise InvalidJson(text) from None
    except InvalidJson as wrong:
        text = f"Parse error{wrong.message.removeprefix('Invalid JSON')}"
        raise InvalidJson(text) from None
    except InvalidRequest:
        text = "Invalid request: a call is one JSON object"
        raise InvalidRequest(text) from None
    return call_of(message)


def call_of(message: dict[str, Any]) -> Call:
    """The call in a JSON object; raises InvalidRequest with `errors`."""
    method, params, call_id = message.get("method"), message.get("params", {}), message.get("id")
    wrong = [_mistake(name, "Unknown member") for name in sorted(message.keys() - MEMBERS)]
    if message.get("jsonrpc") != "2.0":
        wrong.append(_mistake("jsonrpc", "Must be '2.0'"))
    if not isinstance(method, str):
        wrong.append(_mistake("method", "Must be a string"))
    if not isinstance(params, dict):
        wrong.append(_mistake("params", "Must be an object"))
    if isinstance(call_id, bool) or not isinstance(call_id, str | int | None):
        wrong.append(_mistake("id", "Must be a string or an integer"))
    if wrong or not isinstance(method, str) or not isinstance(params, dict):
        text = "Invalid request: " + "; ".join(f"{one['loc'][0]}: {one['msg']}" for one in wrong)
        raise InvalidRequest(text, errors=wrong)
    return Call(method, params, call_id)


def result_reply(call: Call, result: dict[str, Any]) -> Reply:
    """The answer to a call that was carried out."""
    return {"jsonrpc": "2.0", "id": call.id, "result": result}


def error_reply(error: MetaGameError, call: Call | None = None) -> Reply:
    """The answer to a call that was not; its id is null where no call could be read."""
    row = outward(error)
    data = {"reason": row.reason, **error.fields}
    detail = {"code": row.rpc_code, "message": error.message, "data": data}
    return {"jsonrpc": "2.0", "id": None if call is None else call.id, "error": detail}


def encode_reply(reply: Reply) -> bytes:
    """The bytes of an answer."""
    return strictjson.dumps(reply)


def _mistake(member: str, text: str) -> dict[str, Any]:
    return {"loc": [member[:200]], "msg": text}
