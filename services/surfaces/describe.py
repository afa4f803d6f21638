"""What OpenAPI, and so `/docs`, says of the routes that read their bodies themselves.

They do so because OpenEnv's errors name fields by the action's own names, and because a body is
validated once, straight from its bytes.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from metagame.games import Game
from metagame.models import MetaGameState
from metagame.wire.requests import MakeBody, ResetBody, StepBody

Schema = dict[str, Any]

_ID: Schema = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}
BY_PATH: list[Schema] = [{"name": "session_id", "in": "path", "required": True, "schema": _ID}]
BY_HEADER: list[Schema] = [
    {"name": "X-Session-ID", "in": "header", "schema": _ID, "description": "Names the session"},
    {"name": "session_id", "in": "query", "schema": _ID, "description": "The same, where no header is sent"},
]
_KEY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "maxLength": 256},
    "description": "The request id, where the body has none",
}
_ITEM: Schema = {
    "type": "object",
    "properties": {
        "session_id": _ID,
        "episode_id": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "step_count": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]},
        "generation": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
        "attached": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        "expires_in_s": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    },
    "description": "What a newer release wrote and this one cannot read is null",
}
_PAGE: Schema = {
    "type": "object",
    "properties": {
        "sessions": {"type": "array", "items": _ITEM},
        "next_cursor": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
}
_WHOLE: Schema = {"type": "integer", "minimum": 0}
_COUNT: Schema = {"type": "object", "properties": {"total": _WHOLE, "per_s": {"type": "number"}}}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _latency(*names: str) -> Schema:
    return {"type": "object", "properties": {name: _or_null({"type": "number"}) for name in names}}


_STEP_LATENCY = _latency("p50", "p90", "p99", "p99.9")
_WORKER: Schema = {
    "type": "object",
    "properties": {
        "worker_id": {"type": "string"},
        "host": _or_null({"type": "string"}),
        "pid": _or_null(_WHOLE),
        "version": _or_null({"type": "string"}),
        "state": {"enum": ["ready", "draining", "silent"]},
        "started_at": _or_null({"type": "number"}),
        "seen_s": {"type": "number", "description": "Age of its last word; silent above 6, gone above 30"},
        **dict.fromkeys(("attached", "anonymous", "steps", "resident_bytes"), _WHOLE),
        "steps_per_s": {"type": "number"},
        "latency_ms": _STEP_LATENCY,
        "redis_round_trip_ms": _or_null(_latency("p50", "p99")),
        "cpu": {"type": "number", "description": "Cores used"},
    },
}
_NODE: Schema = {
    "type": "object",
    "properties": {
        "node": {"type": "string"},
        "role": {"enum": ["primary", "replica"]},
        "state": {"enum": ["up", "down"]},
        "version": _or_null({"type": "string"}),
        **{name: _or_null(_WHOLE) for name in ("used_memory_bytes", "max_memory_bytes", "clients", "commands_per_s")},
        "aof": _or_null({"type": "boolean"}),
        "fsync": _or_null({"enum": ["always", "everysec", "no"]}),
    },
    "description": "What a server did not say of itself is null",
}
_POOL: Schema = {
    "type": "object",
    "properties": {
        "schema_version": {"const": 1},
        "at": {"type": "number", "description": "Unix time in seconds"},
        "store": {"enum": ["redis", "memory"]},
        "sessions": {
            "type": "object",
            "properties": {
                "total": _or_null(_WHOLE),
                "attached": _WHOLE,
                "anonymous": _WHOLE,
                "detached": _or_null(_WHOLE),
                "max": _WHOLE,
            },
            "description": "While Redis is away nobody knows how many there are: null",
        },
        "steps": _COUNT,
        "requests": _COUNT,
        "errors": {"type": "object", "additionalProperties": _WHOLE},
        "latency_ms": _STEP_LATENCY,
        "workers": {"type": "array", "items": _WORKER},
        "redis": {"type": "array", "items": _NODE},
    },
}
_CALL: Schema = {
    "type": "object",
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "method": {"type": "string", "examples": ["tools/list", "tools/call"]},
        "params": {"type": "object"},
        "id": {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
    },
    "required": ["jsonrpc", "method"],
    "additionalProperties": False,
}
_REPLY: Schema = {
    "type": "object",
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "id": {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
        "result": {"type": "object"},
        "error": {
            "type": "object",
            "properties": {"code": {"type": "integer"}, "message": {"type": "string"}, "data": {"type": "object"}},
        },
    },
    "required": ["jsonrpc", "id"],
    "description": "A result or an error; OpenEnv's dialect has status 200 for either",
}
_SPLIT: Schema = {"type": "object", "properties": {"name": {"type": "string"}, "type": {"type": "string"}}}
_NO_TASKS = (404, 500, 501)
_PROBLEM: Schema = {
    "type": "object",
    "properties": {
        "detail": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
        "code": {"type": "string"},
        "reason": {"type": "string"},
        "retryable": {"type": "boolean"},
        "request_id": {"type": "string"},
    },
    "required": ["detail", "code"],
}


def reset(game: Game, named: list[Schema]) -> Schema:
    """Route arguments of a reset."""
    asks = _asks([*named, _KEY], _inlined(ResetBody), required=False)
    return _route("Start an episode", {200: _observed(game)}, (400, 409, 413, 422, 500, 503), asks)


def step(game: Game, named: list[Schema]) -> Schema:
    """Route arguments of a step."""
    body = _inlined(StepBody)
    body["properties"]["action"] = _inlined(game.action_type)
    return _route("Take a step", {200: _observed(game)}, (400, 409, 413, 422, 500, 503), _asks([*named, _KEY], body))


def page_step(game: Game, named: list[Schema]) -> Schema:
    """Route arguments of a step on OpenEnv's page: a message may stand there bare, where it makes an action."""
    route = step(game, named)
    action = _inlined(game.action_type)
    if action.get("required", []) == ["message"]:
        body = route["openapi_extra"]["requestBody"]["content"]["application/json"]["schema"]
        bare = dict(body["properties"]) | {"message": action["properties"]["message"]}
        body["properties"] = bare
        body["description"] = "An action, or its `message` alone, which counts where both stand"
        body["anyOf"] = [{"required": ["action"]}, {"required": ["message"]}]
        del body["required"]
    return route


def state(named: list[Schema]) -> Schema:
    """Route arguments of a state."""
    return _route("Where the session stands", {200: _inlined(MetaGameState)}, (400, 404, 503), _asks(named))


def make() -> Schema:
    """Route arguments of making a session."""
    asks = _asks([_KEY], _inlined(MakeBody), required=False)
    return _route("Make a session", {201: _ITEM, 200: _ITEM}, (400, 413, 422, 503), asks)


def page() -> Schema:
    """Route arguments of listing sessions."""
    return _route("List sessions, for operators", {200: _PAGE}, (403, 422, 503))


def inspect() -> Schema:
    """Route arguments of inspecting a session."""
    return _route("Inspect a session", {200: _ITEM}, (400, 404, 503))


def end() -> Schema:
    """Route arguments of ending a session."""
    return _route("End a session", {204: None}, (400, 503))


def pool() -> Schema:
    """Route arguments of looking at the pool."""
    return _route("The whole pool, for operators", {200: _POOL}, (403,))


def mcp(named: list[Schema]) -> Schema:
    """Route arguments of a JSON-RPC call."""
    answers: dict[int, Schema | None] = {200: _REPLY, 202: None, 400: _REPLY, 404: _REPLY}
    return _route("List or call tools: OpenEnv's JSON-RPC, and MCP", answers, (403, 406, 413, 422), _asks(named, _CALL))


def mcp_end(named: list[Schema]) -> Schema:
    """Route arguments of ending a session that `initialize` began."""
    return _route("End a session that MCP's initialize began", {204: None}, (400, 403, 404, 405), _asks(named))


def environments() -> Schema:
    """Route arguments of listing environments."""
    return _route("List environments", {200: {"type": "array", "items": {"type": "string"}}}, ())


def splits() -> Schema:
    """Route arguments of listing splits."""
    return _route("List splits", {200: {"type": "array", "items": _SPLIT}}, _NO_TASKS)


def tasks(body: type[BaseModel]) -> Schema:
    """Route arguments of listing tasks, all or some."""
    answer = {"type": "object", "properties": {"tasks": {"type": "array"}, "env_name": {"type": "string"}}}
    return _about_tasks("List tasks", answer, body)


def num_tasks(body: type[BaseModel]) -> Schema:
    """Route arguments of counting tasks."""
    return _about_tasks("Count tasks", {"type": "object", "properties": {"num_tasks": {"type": "integer"}}}, body)


def task(body: type[BaseModel]) -> Schema:
    """Route arguments of looking at a task."""
    return _about_tasks("Look at a task", {"type": "object", "properties": {"task": {}}}, body)


def _about_tasks(summary: str, answer: Schema, body: type[BaseModel]) -> Schema:
    return _route(summary, {200: answer}, (*_NO_TASKS, 400, 413, 422), _asks([], _inlined(body)))


def _route(
    summary: str, answers: dict[int, Schema | None], problems: tuple[int, ...], asks: Schema | None = None
) -> Schema:
    """Route arguments; the first answer's status is the usual one."""
    answered = {
        status: {"description": "Done"} | ({"content": _json(schema)} if schema else {})
        for status, schema in answers.items()
    }
    refused = {status: {"description": "Refused", "content": _json(_PROBLEM)} for status in problems}
    return {
        "summary": summary,
        "openapi_extra": asks or {},
        "responses": {**answered, **refused},
        "status_code": next(iter(answers)),
        "response_model": None,
    }


def _asks(parameters: list[Schema], body: Schema | None = None, *, required: bool = True) -> Schema:
    asks: Schema = {"parameters": parameters}
    if body is not None:
        asks["requestBody"] = {"required": required, "content": _json(body)}
    return asks


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _observed(game: Game) -> Schema:
    observation = _inlined(game.observation_type)
    properties = dict(observation["properties"])
    top = {name: properties.pop(name, {}) for name in ("reward", "done")}
    return {
        "type": "object",
        "properties": {
            "observation": {**observation, "properties": properties},
            **top,
            "metadata": {"anyOf": [{"type": "object"}, {"type": "null"}]},
            "request_id": {"type": "string"},
        },
        "required": ["observation", "reward", "done"],
    }


def _inlined(model: type[BaseModel]) -> Schema:
    """The model's JSON schema with its definitions in place: OpenAPI looks for them elsewhere."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, dict):
            reference = node.get("$ref")
            if isinstance(reference, str):
                return resolve(definitions[reference.rpartition("/")[2]])
            return {key: resolve(value) for key, value in node.items()}
        return [resolve(value) for value in node] if isinstance(node, list) else node

    inlined: Schema = resolve(schema)
    return inlined
