"""How a game declares its tools, and what becomes of them on the wire."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from metagame.errors import InvalidAction, UnknownTool
from metagame.games import NO_TOOLS, Observation, Tool, tools_of
from metagame.games.echo import EchoGame
from metagame.wire.tools import find_tool, mcp_result, mcp_tool, openenv_result, result_of
from tests.games.pig import PigGame
from tests.mcp.asking import Nothing, PigWithTools, served
from tests.servers import ROOT


class Point(BaseModel):
    """A place."""

    x: int
    next: Point | None = None


def tool(name: str = "look", returns: Any = str, result: Any = "seen") -> Tool:
    return Tool(name, "Look.", Nothing, lambda _: {}, lambda _: result, returns)


@pytest.mark.parametrize("name", [*sorted(NO_TOOLS), "", "a b", "é", "x" * 129])
def test_a_tool_may_not_be_named_so(name: str) -> None:
    with pytest.raises(ValueError, match="no name for a tool"):
        tool(name)


def test_a_game_need_not_have_tools() -> None:
    assert tools_of(PigGame()) == ()
    assert [one.name for one in tools_of(EchoGame())] == ["echo_message", "echo_with_length"]


def test_a_tool_is_found_by_its_name_and_no_other() -> None:
    tools = (tool("one"), tool("two"))
    assert find_tool(tools, "two") is tools[1]
    with pytest.raises(UnknownTool, match="There are: one, two"):
        find_tool(tools, "three")


@pytest.mark.parametrize(
    ("returns", "result", "wrapped"),
    [
        (str, "seen", True),
        (int, 5, True),
        (list[int], [1, 2], True),
        (str | None, None, True),
        (Annotated[int, Field(ge=0)], 5, True),
        (dict[str, int], {"a": 1}, False),
        (EchoGame().tools[1].returns, {"message": "x", "length": 1}, False),
    ],
)
def test_a_result_that_is_no_object_is_wrapped_in_one(returns: Any, result: Any, wrapped: bool) -> None:
    one = tool(returns=returns, result=result)
    answered = result_of(one, Observation({}))
    schema = mcp_tool(one)["outputSchema"]
    assert schema["type"] == "object"
    assert ("x-fastmcp-wrap-result" in schema) is wrapped
    structured = mcp_result(answered)["structuredContent"]
    assert structured == ({"result": result} if wrapped else result)
    assert openenv_result(answered)["data"] == result
    text = mcp_result(answered)["content"][0]["text"]
    assert (text if isinstance(result, str) else json.loads(text)) == result


def test_a_schema_with_definitions_keeps_them_where_references_find_them() -> None:
    wrapped = mcp_tool(tool(returns=list[Point], result=[]))["outputSchema"]
    assert "Point" in wrapped["$defs"]
    assert "$defs" not in wrapped["properties"]["result"]


@pytest.mark.parametrize("limit", [1, 5])
def test_echos_tools_take_messages_up_to_its_limit(limit: int) -> None:
    for one in EchoGame(limit).tools:
        assert one.arguments.model_json_schema()["properties"]["message"]["maxLength"] == limit
        one.arguments.model_validate({"message": "😀" * limit})
        with pytest.raises(ValueError, match="at most"):
            one.arguments.model_validate({"message": "😀" * (limit + 1)})


@pytest.mark.anyio
async def test_another_games_tools_are_called_by_every_way_in() -> None:
    async with served(PigWithTools()) as rpc:
        listed = (await rpc.handshake("tools/list")).json()["result"]["tools"]
        assert [one["name"] for one in listed] == ["roll", "hold", "broken", "mute"]
        await rpc.http.post("/sessions/p/reset", json={"seed": 3})
        model = PigGame()
        state, _ = model.reset(3, {})
        state, first = model.step(state, model.action_type.model_validate({"move": "roll", "dice": 2}))
        state, second = model.step(state, model.action_type.model_validate({"move": "roll"}))
        _, third = model.step(state, model.action_type.model_validate({"move": "roll", "dice": 2}))

        by_mcp = await rpc.stateless("tools/call", {"name": "roll", "arguments": {"dice": 2}}, "/sessions/p/mcp")
        assert by_mcp.json()["result"]["structuredContent"] == {"result": first.fields["rolled"]}
        by_openenv = await rpc.openenv("tools/call", {"name": "roll"}, "/sessions/p/mcp")
        assert by_openenv["result"]["data"] == second.fields["rolled"]
        action = {"type": "call_tool", "tool_name": "roll", "arguments": {"dice": 2}}
        by_step = (await rpc.http.post("/sessions/p/step", json={"action": action})).json()
        assert by_step["observation"]["result"]["data"] == third.fields["rolled"]
        assert by_step["reward"] == third.reward
        assert await rpc.steps("p") == 3


@pytest.mark.anyio
async def test_an_action_of_the_games_own_is_never_taken_for_a_tool() -> None:
    class Typed(BaseModel):
        type: str

    class OwnWords(PigWithTools):
        action_type = Typed

        def step(self, state: Any, action: BaseModel) -> Any:
            return state, Observation({"rolled": [], "turn": 0, "banked": 0}, 1.0)

    async with served(OwnWords()) as rpc:
        await rpc.http.post("/sessions/p/reset")
        for word in ("call_tool", "list_tools"):
            body = (await rpc.http.post("/sessions/p/step", json={"action": {"type": word}})).json()
            assert body["reward"] == 1.0


@pytest.mark.anyio
async def test_a_game_refuses_a_move_of_an_agents_as_it_refuses_a_trainers() -> None:
    async with served(PigWithTools()) as rpc:
        await rpc.http.post("/sessions/p/reset")
        reply = await rpc.openenv("tools/call", {"name": "hold"}, "/sessions/p/mcp")
        assert reply["error"]["data"]["reason"] == "invalid_action"
        action = {"type": "call_tool", "tool_name": "hold"}
        seen = (await rpc.http.post("/sessions/p/step", json={"action": action})).json()["observation"]
        assert (seen["error"]["error_type"], seen["result"]) == ("invalid_args", None)
        assert await rpc.steps("p") == 0
    with pytest.raises(InvalidAction):
        PigGame().step({"turn": 0}, PigGame().action_type.model_validate({"move": "hold"}))


def test_a_server_needs_nothing_of_mcps_own_libraries() -> None:
    code = "import sys, services.app as app; app.app; print({'mcp', 'fastmcp', 'sse_starlette'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
