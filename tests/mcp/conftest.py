"""Four workers on one Redis behind HAProxy, and the interpreters that have MCP's clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.balancer.haproxy import Balancer, balancer
from tests.redis_servers import redis_server
from tests.survival.stock import StockClients, interpreter, stock_clients
from tests.survival.workers import WAIT_S, Worker, start_all, workers

AGENTS = Path(__file__).with_name("agents.py")


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers, and the one address that clients know."""

    workers: list[Worker]
    balancer: Balancer

    @property
    def url(self) -> str:
        return self.balancer.url

    async def all_up(self) -> None:
        """Wait until every worker that runs is in rotation, and no other."""
        await self.balancer.all_up(self.workers)

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """A request through the balancer."""
        return httpx.request(method, self.url + path, trust_env=False, timeout=WAIT_S, **request)

    def sessions(self) -> dict[str, int]:
        """The step count of each session."""
        listed = self.ask("GET", "/sessions?limit=1000").json()["sessions"]
        return {one["session_id"]: one["step_count"] for one in listed}


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(tmp_path_factory.mktemp("redis")))
        four = stack.enter_context(workers(4, METAGAME_REDIS_URL=redis.url))
        ports = [worker.port for worker in four]
        yield Pool(four, stack.enter_context(balancer(tmp_path_factory.mktemp("balancer"), ports)))


@pytest.fixture
async def pool(running: Pool) -> Pool:
    """All four run; a test may leave some of them dead."""
    start_all(running.workers)
    await running.all_up()
    return running


@pytest.fixture(scope="package")
def openenv_python() -> str:
    """OpenEnv 0.10, which brings MCP's SDK 1 and FastMCP 3."""
    return interpreter("METAGAME_TEST_OPENENV_PYTHON", ".venvs/openenv-0.10")


@pytest.fixture(scope="package")
def mcp_python() -> str:
    """MCP's SDK 2 and FastMCP 4."""
    return interpreter("METAGAME_TEST_MCP_PYTHON", ".venvs/mcp-2")


@pytest.fixture(scope="package")
def tool_clients(openenv_python: str) -> Iterator[StockClients]:
    """OpenEnv's MCPToolClient."""
    with stock_clients("openenv", openenv_python, AGENTS) as clients:
        yield clients
