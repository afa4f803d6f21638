"""MCP's SDK and FastMCP, both majors, from PyPI: initialise, list, call, while workers are killed between calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from tests.mcp.conftest import AGENTS, Pool
from tests.survival.stock import StockClients, stock_clients

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Kind:
    """A client: its interpreter's fixture, its name in agents.py, how it connects, and the revision it then speaks."""

    python: str
    name: str
    mode: str | None
    revision: str

    @property
    def initializes(self) -> bool:
        return self.revision < "2026"


KINDS = {
    "sdk-1": Kind("openenv_python", "sdk", None, "2025-11-25"),
    "sdk-2-auto": Kind("mcp_python", "sdk", "auto", "2026-07-28"),
    "sdk-2-legacy": Kind("mcp_python", "sdk", "legacy", "2025-11-25"),
    "fastmcp-3": Kind("openenv_python", "fastmcp", None, "2025-11-25"),
    "fastmcp-4-auto": Kind("mcp_python", "fastmcp", "auto", "2026-07-28"),
    "fastmcp-4-legacy": Kind("mcp_python", "fastmcp", "legacy", "2025-11-25"),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def clients(request: pytest.FixtureRequest, kind: Kind) -> Iterator[StockClients]:
    with stock_clients(kind.name, request.getfixturevalue(kind.python), AGENTS) as running:
        yield running


@pytest.fixture
def name() -> str:
    return uuid4().hex


async def call(clients: StockClients, name: str, message: str) -> object:
    """What echo_with_length says."""
    answer = await clients.call("call", name=name, tool="echo_with_length", arguments={"message": message})
    assert answer["isError"] is False, answer
    return answer["data"] if "data" in answer else answer["structuredContent"]


async def test_a_client_lists_and_calls_the_tools(clients: StockClients, kind: Kind, name: str, pool: Pool) -> None:
    about = await clients.call("open", name=name, url=f"{pool.url}/mcp", mode=kind.mode)
    if kind.name == "sdk" or kind.initializes:
        assert about["revision"] == kind.revision
    tools = {tool["name"]: tool for tool in await clients.call("tools", name=name)}
    assert list(tools) == ["echo_message", "echo_with_length"]
    for tool in tools.values():
        assert tool["inputSchema"]["required"] == ["message"]
        assert tool["inputSchema"]["properties"]["message"]["type"] == "string"
    assert tools["echo_message"]["outputSchema"]["properties"] == {"result": {"type": "string"}}
    assert tools["echo_with_length"]["outputSchema"]["required"] == ["message", "length"]

    said = await clients.call("call", name=name, tool="echo_message", arguments={"message": "héé😀"})
    assert said.get("data", said.get("structuredContent")) in ("héé😀", {"result": "héé😀"})
    assert await call(clients, name, "héé😀") == {"message": "héé😀", "length": 4}
    await clients.call("close", name=name)


async def test_an_agents_mistake_is_a_result_and_an_unknown_tool_an_error(
    clients: StockClients, kind: Kind, name: str, pool: Pool
) -> None:
    await clients.call("open", name=name, url=f"{pool.url}/mcp", mode=kind.mode)
    for wrong in ({}, {"message": 5}, {"message": "x", "more": 1}):
        answer = await clients.call("call", name=name, tool="echo_message", arguments=wrong)
        assert answer["isError"] is True
    for control in ("reset", "step", "state", "close", "nope"):
        raised = await clients.raises("call", name=name, tool=control, arguments={})
        assert f"Unknown tool: '{control}'" in raised
    await clients.call("close", name=name)


async def test_a_client_calls_on_while_workers_are_killed_between_its_calls(
    clients: StockClients, kind: Kind, name: str, pool: Pool
) -> None:
    """The session is one that its trainer made and named; the agent's leaving does not end it."""
    assert pool.ask("POST", "/sessions", json={"session_id": name}).status_code == 201
    await clients.call("open", name=name, url=f"{pool.url}/sessions/{name}/mcp", mode=kind.mode)
    assert len(await clients.call("tools", name=name)) == 2
    taken = 0
    for worker in pool.workers[:-1]:
        for _ in pool.workers:
            taken += 1
            assert await call(clients, name, "x" * taken) == {"message": "x" * taken, "length": taken}
        await asyncio.to_thread(worker.kill)
    taken += 1
    await call(clients, name, "the last worker")
    await clients.call("close", name=name)
    state = pool.ask("GET", f"/sessions/{name}/state").json()
    assert (state["step_count"], state["episode_id"] is None) == (taken, False)


async def test_a_session_of_its_own_begins_with_initialize_and_ends_with_the_client(
    clients: StockClients, kind: Kind, name: str, pool: Pool
) -> None:
    before = set(pool.sessions())
    await clients.call("open", name=name, url=f"{pool.url}/mcp", mode=kind.mode)
    for number, worker in enumerate(pool.workers[:2], 1):
        await call(clients, name, "hi")
        new = {key: steps for key, steps in pool.sessions().items() if key not in before}
        assert list(new.values()) == ([number] if kind.initializes else [])
        await asyncio.to_thread(worker.kill)
    await clients.call("close", name=name)
    assert set(pool.sessions()) == before


async def test_a_client_can_name_its_session_by_header(
    clients: StockClients, kind: Kind, name: str, pool: Pool
) -> None:
    pool.ask("POST", f"/sessions/{name}/reset", json={"episode_id": "e"})
    headers = {"X-Session-ID": name}
    await clients.call("open", name=name, url=f"{pool.url}/mcp", mode=kind.mode, headers=headers)
    await call(clients, name, "hi")
    await clients.call("close", name=name)
    assert pool.ask("GET", f"/sessions/{name}/state").json() == {"episode_id": "e", "step_count": 1}


async def test_a_session_that_was_lost_is_loud(clients: StockClients, kind: Kind, name: str, pool: Pool) -> None:
    pool.ask("POST", f"/sessions/{name}/reset")
    await clients.call("open", name=name, url=f"{pool.url}/sessions/{name}/mcp", mode=kind.mode)
    await call(clients, name, "hi")
    pool.ask("DELETE", f"/sessions/{name}")
    raised = await clients.raises("call", name=name, tool="echo_message", arguments={"message": "hi"})
    assert "Error" in raised
    assert name not in pool.sessions()
