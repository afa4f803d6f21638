"""Clients that know nothing of our keys but can send headers: MCP's, FastMCP's and OpenEnv's, unmodified."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.auth.conftest import FIRST, SECOND
from tests.mcp.conftest import AGENTS, mcp_python, openenv_python
from tests.mcp.test_stock_clients import KINDS, Kind
from tests.servers import Server
from tests.survival.conftest import stock
from tests.survival.stock import StockClients, stock_clients

__all__ = ["mcp_python", "openenv_python", "stock"]

pytestmark = pytest.mark.anyio
ARGUMENTS = {"tool": "echo_with_length", "arguments": {"message": "abc"}}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def agents(request: pytest.FixtureRequest, kind: Kind) -> Iterator[StockClients]:
    with stock_clients(kind.name, request.getfixturevalue(kind.python), AGENTS) as running:
        yield running


async def test_an_agent_calls_tools_with_a_key_and_nothing_without(
    agents: StockClients, kind: Kind, keyed: Server
) -> None:
    name, url = uuid4().hex, f"{keyed.url}/mcp"
    await agents.call("open", name=name, url=url, mode=kind.mode, headers={"Authorization": f"Bearer {FIRST}"})
    assert (await agents.call("call", name=name, **ARGUMENTS))["isError"] is False
    await agents.call("close", name=name)
    # What it says differs; that the agent is let in by none is what matters.
    assert await agents.raises("open", name=uuid4().hex, url=url, mode=kind.mode)


async def test_openenvs_client_plays_with_a_key_and_is_refused_without(stock: StockClients, keyed: Server) -> None:
    name = uuid4().hex
    await stock.call("make", name=name, base_url=keyed.url, headers={"X-API-Key": SECOND})
    await stock.call("reset", name=name, episode_id=name)
    assert await stock.call("step", name=name) == [1, 0.3]
    await stock.call("close", name=name)
    refused = uuid4().hex
    await stock.call("make", name=refused, base_url=keyed.url)
    assert "401" in await stock.raises("reset", name=refused, episode_id=refused)
