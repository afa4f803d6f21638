"""OpenEnv 0.10's MCPToolClient, unmodified, on four workers: what the reference server fails two times in three."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from tests.mcp.conftest import Pool
from tests.survival.stock import StockClients

pytestmark = pytest.mark.anyio
CLIENTS = 24
BOTH = pytest.mark.parametrize("mode", ["production", "simulation"])


@pytest.fixture
def names() -> list[str]:
    return [uuid4().hex for _ in range(CLIENTS)]


async def test_clients_connect_reset_call_and_reconnect_after_a_kill(
    tool_clients: StockClients, names: list[str], pool: Pool
) -> None:
    opened = await tool_clients.call("open", name=names, url=pool.url)
    sessions = [about["session_id"] for about in opened]
    assert len(set(sessions)) == CLIENTS
    assert await tool_clients.call("reset", name=names) == [0.0] * CLIENTS
    said = await tool_clients.call("call", name=names, tool="echo_message", arguments={"message": "hi"})
    assert said == ["hi"] * CLIENTS

    await asyncio.to_thread(pool.workers[0].kill)
    said = await tool_clients.call("call", name=names, tool="echo_with_length", arguments={"message": "hi"})
    assert said == [{"message": "hi", "length": 2}] * CLIENTS
    # A quarter of the sockets died with their worker; their clients come back to the same sessions.
    stands = await tool_clients.call("state", name=names)
    assert [steps for _, steps in stands] == [2] * CLIENTS
    action = {"tool_name": "echo_message", "arguments": {"message": "abc"}}
    stepped = await tool_clients.call("step", name=names, action=action)
    assert {one["reward"] for one in stepped} == {0.3}
    assert [pool.sessions()[session] for session in sessions] == [3] * CLIENTS

    await tool_clients.call("close", name=names)
    assert not set(sessions) & set(pool.sessions())


@BOTH
async def test_both_modes_list_and_call_the_tools(
    tool_clients: StockClients, names: list[str], pool: Pool, mode: str
) -> None:
    name = names[0]
    await tool_clients.call("open", name=name, url=pool.url, mode=mode)
    await tool_clients.call("reset", name=name)
    tools = dict(await tool_clients.call("tools", name=name))
    assert list(tools) == ["echo_message", "echo_with_length"]
    assert tools["echo_message"]["required"] == ["message"]
    asked = {"name": name, "arguments": {"message": "héé😀"}}
    assert await tool_clients.call("call", tool="echo_message", **asked) == "héé😀"
    assert await tool_clients.call("call", tool="echo_with_length", **asked) == {"message": "héé😀", "length": 4}
    assert (await tool_clients.call("state", name=name))[1] == 2
    await tool_clients.call("close", name=name)


@BOTH
async def test_both_modes_raise_what_the_agent_got_wrong_and_go_on(
    tool_clients: StockClients, names: list[str], pool: Pool, mode: str
) -> None:
    name = names[0]
    await tool_clients.call("open", name=name, url=pool.url, mode=mode)
    await tool_clients.call("reset", name=name)
    for tool, arguments, text in (
        ("nope", {"message": "x"}, "Unknown tool: 'nope'"),
        ("reset", {}, "Unknown tool: 'reset'"),
        ("echo_message", {}, "message: Field required"),
        ("echo_message", {"message": 5}, "message: Input should be a valid string"),
    ):
        raised = await tool_clients.raises("call", name=name, tool=tool, arguments=arguments)
        assert raised.startswith(f"RuntimeError: Tool '{tool}' failed: ")
        assert text in raised
    assert (await tool_clients.call("state", name=name))[1] == 0
    await tool_clients.call("close", name=name)


async def test_a_call_before_any_reset_is_a_step_of_the_episode_that_the_session_began_with(
    tool_clients: StockClients, names: list[str], pool: Pool
) -> None:
    name = names[0]
    await tool_clients.call("open", name=name, url=pool.url)
    assert await tool_clients.call("call", name=name, tool="echo_message", arguments={"message": "hi"}) == "hi"
    await tool_clients.call("step", name=name, action={"tool_name": "echo_message", "arguments": {"message": "x"}})
    assert (await tool_clients.call("state", name=name))[1] == 2
    await tool_clients.call("close", name=name)


async def test_a_step_shows_the_tools_result_and_the_steps_reward(
    tool_clients: StockClients, names: list[str], pool: Pool
) -> None:
    name = names[0]
    await tool_clients.call("open", name=name, url=pool.url)
    await tool_clients.call("reset", name=name)
    action = {"tool_name": "echo_with_length", "arguments": {"message": "abc"}}
    seen = await tool_clients.call("step", name=name, action=action)
    assert seen["observation"]["result"]["data"] == {"message": "abc", "length": 3}
    assert seen["observation"]["metadata"] == {"original_message": "abc", "step": 1}
    assert (seen["observation"]["error"], seen["reward"]) == (None, 0.3)
    listed = await tool_clients.call("step", name=name, action={})
    assert [tool["name"] for tool in listed["observation"]["tools"]] == ["echo_message", "echo_with_length"]
    assert (await tool_clients.call("state", name=name))[1] == 1
    await tool_clients.call("close", name=name)


async def test_a_client_under_a_sessions_path_has_that_session(
    tool_clients: StockClients, names: list[str], pool: Pool
) -> None:
    name = names[0]
    about = await tool_clients.call("open", name=name, url=f"{pool.url}/sessions/{name}")
    assert about["session_id"] == name
    assert await tool_clients.call("call", name=name, tool="echo_message", arguments={"message": "hi"}) == "hi"
    assert pool.sessions()[name] == 1
    await tool_clients.call("close", name=name)
