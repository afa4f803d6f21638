"""Tools on the wire: as they are listed, called and answered, for MCP, OpenEnv and step frames.

    tools/list    MCP and OpenEnv   {"name", "description", "inputSchema", "outputSchema"}
                  step frame        {"name", "description", "input_schema"}
    tools/call    MCP               {"content", "structuredContent", "isError", "_meta"?}
                  OpenEnv           {"content", "structured_content", "data", "is_error", "meta"}
                  step frame        the observation {"tool_name", "result": OpenEnv's, "error"}

A result that is no object is wrapped in one, {"result": …}, marked as FastMCP marks it, so that its
client and OpenEnv's unwrap it again.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from metagame.core import strictjson
from metagame.errors import GameFailed, InvalidAction, InvalidParams, MetaGameError, UnknownTool
from metagame.games import Observation, Tool
from metagame.value import value
from metagame.wire.requests import validate_action

WRAPPED = "x-fastmcp-wrap-result"
_WRAP_META = {"fastmcp": {"wrap_result": True}}
_FORBID = ConfigDict(extra="forbid", defer_build=True)
"""Built when first used: most servers never see a tool's call."""


class CallToolAction(BaseModel):
    """A step frame's action that calls a tool."""

    model_config = _FORBID

    type: Literal["call_tool"]
    tool_name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)


class ListToolsAction(BaseModel):
    """A step frame's action that asks which tools there are."""

    model_config = _FORBID

    type: Literal["list_tools"]
    metadata: dict[str, Any] = Field(default_factory=dict)


_ACTIONS: dict[str, type[CallToolAction | ListToolsAction]] = {
    "call_tool": CallToolAction,
    "list_tools": ListToolsAction,
}


@value
class ToolCall:
    """A tool to call; with a request id it happens once."""

    name: str
    arguments: dict[str, Any]
    request_id: str | None = None


@value
class ToolResult:
    """What a tool answered, as JSON; `wrapped` where it is no object by its type."""

    data: Any
    wrapped: bool


def tool_action(action: dict[str, Any]) -> CallToolAction | ListToolsAction | None:
    """OpenEnv's tool action in a step's action, None where it is none; raises InvalidAction for a malformed one."""
    kind = action.get("type")
    shape = _ACTIONS.get(kind) if isinstance(kind, str) else None
    return None if shape is None else validate_action(shape, action)


def decode_tool_call(params: dict[str, Any], request_id: str | None) -> ToolCall:
    """The call in the params of `tools/call`; raises InvalidParams."""
    name, arguments = params.get("name"), params.get("arguments")
    if not isinstance(name, str) or not name:
        message = "Missing 'name' in params"
        raise InvalidParams(message)
    if not isinstance(arguments, dict | None):
        message = "Invalid params - 'arguments' must be an object"
        raise InvalidParams(message)
    return ToolCall(name, arguments or {}, request_id)


def find_tool(tools: tuple[Tool, ...], name: str) -> Tool:
    """The tool of this name; raises UnknownTool."""
    for tool in tools:
        if tool.name == name:
            return tool
    message = f"Unknown tool: {name[:200]!r}. There are: {', '.join(tool.name for tool in tools)}"
    raise UnknownTool(message)


def action_of(tool: Tool, arguments: dict[str, Any]) -> dict[str, Any]:
    """The game's action that a call is; raises InvalidAction that names the arguments, or GameFailed."""
    checked = validate_action(tool.arguments, arguments)
    try:
        return tool.action(checked)
    except MetaGameError:
        raise
    except Exception as failure:  # the game is somebody's code
        raise _failed(tool) from failure


def result_of(tool: Tool, seen: Observation) -> ToolResult:
    """What the tool says of the step that it was; raises GameFailed."""
    try:
        data = tool.result(seen)
        strictjson.dumps(data)
    except Exception as failure:  # the game is somebody's code
        raise _failed(tool) from failure
    return ToolResult(data, _is_wrapped(tool))


@lru_cache(maxsize=256)
def mcp_tool(tool: Tool) -> dict[str, Any]:
    """A tool as MCP and OpenEnv's `tools/list` list it; the same object each time, to be read only."""
    schema = _output_schema(tool)
    if _is_wrapped(tool):
        schema = {
            "type": "object",
            "properties": {"result": {key: value for key, value in schema.items() if key != "$defs"}},
            "required": ["result"],
            WRAPPED: True,
        } | ({"$defs": schema["$defs"]} if "$defs" in schema else {})
    listed = {"name": tool.name, "description": tool.description}
    return listed | {"inputSchema": tool.arguments.model_json_schema(), "outputSchema": schema}


def mcp_result(result: ToolResult) -> dict[str, Any]:
    """A result as MCP has it."""
    answer = {"content": _content(result), "structuredContent": _structured(result), "isError": False}
    return answer | ({"_meta": _WRAP_META} if result.wrapped else {})


def mcp_failure(error: MetaGameError) -> dict[str, Any]:
    """A call that the agent can mend, or must know of, told to the agent."""
    return {"content": [{"type": "text", "text": explained(error)}], "isError": True}


def openenv_result(result: ToolResult) -> dict[str, Any]:
    """A result as OpenEnv has it: FastMCP's object, with its `data`."""
    return {
        "content": [{**one, "annotations": None, "meta": None} for one in _content(result)],
        "structured_content": _structured(result),
        "meta": _WRAP_META if result.wrapped else None,
        "data": result.data,
        "is_error": False,
    }


def tools_observation(tools: tuple[Tool, ...]) -> Observation:
    """What a step frame of type `list_tools` shows."""
    listed = [
        {"name": tool.name, "description": tool.description, "input_schema": tool.arguments.model_json_schema()}
        for tool in tools
    ]
    return Observation({"tools": listed})


def call_observation(tool: Tool, seen: Observation, result: ToolResult) -> Observation:
    """What a step frame of type `call_tool` shows: the step's reward, and the tool's result."""
    fields = {"tool_name": tool.name, "result": openenv_result(result), "error": None}
    return Observation(fields, seen.reward, seen.done, seen.metadata)


def failure_observation(name: str, error: InvalidAction | UnknownTool) -> Observation:
    """What a `call_tool` shows whose tool or arguments do not exist: the agent's mistake, not the trainer's."""
    kind = "tool_not_found" if isinstance(error, UnknownTool) else "invalid_args"
    return Observation({"tool_name": name, "result": None, "error": {"error_type": kind, "message": explained(error)}})


def explained(error: MetaGameError) -> str:
    """An error in words for a reader who sees no fields."""
    errors = error.fields.get("errors")
    if not isinstance(errors, list):
        return error.message
    told = "; ".join(f"{'.'.join(map(str, one.get('loc', ())))}: {one.get('msg')}" for one in errors)
    return f"Invalid arguments: {told}" if isinstance(error, InvalidAction) else f"{error.message}: {told}"


@lru_cache(maxsize=256)
def _output_schema(tool: Tool) -> dict[str, Any]:
    return TypeAdapter(tool.returns).json_schema()


def _is_wrapped(tool: Tool) -> bool:
    return _output_schema(tool).get("type") != "object"


def _structured(result: ToolResult) -> Any:
    return {"result": result.data} if result.wrapped else result.data


def _content(result: ToolResult) -> list[dict[str, Any]]:
    text = result.data if isinstance(result.data, str) else strictjson.dumps(result.data).decode()
    return [{"type": "text", "text": text}]


def _failed(tool: Tool) -> GameFailed:
    message = f"The game failed on a call of its tool {tool.name}. Its own error says why, in the log."
    return GameFailed(message)
