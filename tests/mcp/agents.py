"""Unmodified MCP clients, driven line by line: run by interpreters that have them, not by pytest.

As survival/openenv_clients.py: a line in is a command and its arguments, a line out its result or error.
Clients have names; each lives in a task of its own, since MCP's must be closed where they were opened.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

WAIT_S = 60.0
Work = Callable[[Any], Awaitable[Any]]


class Held:
    """An open client."""

    def __init__(self, opened: AbstractAsyncContextManager[Any]) -> None:
        self._works: asyncio.Queue[tuple[Work, asyncio.Future[Any]] | None] = asyncio.Queue()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._live(opened))

    async def ready(self) -> None:
        """Wait until it has connected; raises why it could not."""
        await asyncio.wait_for(self._ready, WAIT_S)

    async def do(self, work: Work) -> Any:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await self._works.put((work, done))
        return await asyncio.wait_for(done, WAIT_S)

    async def close(self) -> None:
        await self._works.put(None)
        await asyncio.wait_for(self._task, WAIT_S)

    async def _live(self, opened: AbstractAsyncContextManager[Any]) -> None:
        try:
            async with opened as client:
                self._ready.set_result(None)
                await self._work(client)
        except Exception as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _work(self, client: Any) -> None:
        while (asked := await self._works.get()) is not None:
            work, done = asked
            try:
                done.set_result(await work(client))
            except Exception as error:  # noqa: BLE001 - whatever it raises is what the test asks about
                done.set_exception(error)


class Sdk:
    """MCP's own SDK: 2 by its client, whose `mode` is a revision or auto; 1 by its session."""

    @asynccontextmanager
    async def open(self, url: str, mode: str | None = None, headers: dict[str, str] | None = None) -> Any:
        import mcp  # type: ignore[import-not-found]  # noqa: PLC0415 - the other interpreter has it

        if not hasattr(mcp, "Client"):
            from mcp.client.streamable_http import streamablehttp_client  # type: ignore[import-not-found]  # noqa: PLC0415 - as above

            async with (
                streamablehttp_client(url, headers=headers) as (reads, writes, session_id),
                mcp.ClientSession(reads, writes) as session,
            ):
                began = await session.initialize()
                session.revision, session.told = began.protocolVersion, session_id()
                yield session
            return
        import httpx2  # type: ignore[import-not-found]  # noqa: PLC0415 - as above
        from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415 - as above

        async with (
            httpx2.AsyncClient(headers=headers, trust_env=False, timeout=WAIT_S) as http,
            mcp.Client(streamable_http_client(url, http_client=http), mode=mode or "auto") as client,
        ):
            client.revision, client.told = client.protocol_version, None
            yield client

    async def about(self, client: Any) -> Any:
        return {"revision": client.revision, "session_id": client.told}

    async def tools(self, client: Any) -> Any:
        listed = (await client.list_tools()).tools
        return [one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in listed]

    async def call(self, client: Any, tool: str, arguments: dict[str, Any]) -> Any:
        result = await client.call_tool(tool, arguments)
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)


class FastMcp(Sdk):
    """FastMCP's client, of release 3 and 4."""

    @asynccontextmanager
    async def open(self, url: str, mode: str | None = None, headers: dict[str, str] | None = None) -> Any:
        import fastmcp  # type: ignore[import-not-found]  # noqa: PLC0415 - the other interpreter has it
        from fastmcp.client.transports import StreamableHttpTransport  # type: ignore[import-not-found]  # noqa: PLC0415 - as above

        modes = {} if mode is None else {"mode": mode}
        async with fastmcp.Client(StreamableHttpTransport(url, headers=headers), **modes) as client:
            yield client

    async def about(self, client: Any) -> Any:
        began = client.initialize_result
        return {"revision": None if began is None else getattr(began, "protocolVersion", None)}

    async def tools(self, client: Any) -> Any:
        return [one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in await client.list_tools()]

    async def call(self, client: Any, tool: str, arguments: dict[str, Any]) -> Any:
        result = await client.call_tool(tool, arguments, raise_on_error=False)
        return {
            "data": _plain(result.data),
            "isError": result.is_error,
            "content": [one.text for one in result.content],
        }


class OpenEnv:
    """OpenEnv 0.10's client for tools: by HTTP (production), or by step frames (simulation)."""

    @asynccontextmanager
    async def open(self, url: str, mode: str | None = None, headers: dict[str, str] | None = None) -> Any:
        from openenv.core.mcp_client import MCPToolClient  # type: ignore[import-not-found]  # noqa: PLC0415 - the other interpreter has it

        async with MCPToolClient(base_url=url, headers=headers) as client:
            client.use_production_mode = mode != "simulation"
            yield client

    async def about(self, client: Any) -> Any:
        return {"session_id": client._production_session_id}

    async def tools(self, client: Any) -> Any:
        return [[one.name, one.input_schema] for one in await client.list_tools(use_cache=False)]

    async def call(self, client: Any, tool: str, arguments: dict[str, Any]) -> Any:
        return await client.call_tool(tool, **arguments)

    async def reset(self, client: Any, **arguments: Any) -> Any:
        return (await client.reset(**arguments)).reward

    async def step(self, client: Any, action: dict[str, Any]) -> Any:
        from openenv.core.env_server.mcp_types import CallToolAction, ListToolsAction  # type: ignore[import-not-found]  # noqa: PLC0415 - the other interpreter has it

        typed = CallToolAction(**action) if "tool_name" in action else ListToolsAction()
        result = await client.step(typed)
        return {"observation": result.observation.model_dump(mode="json"), "reward": result.reward}

    async def state(self, client: Any) -> Any:
        stands = await client.state()
        return [stands.episode_id, stands.step_count]


def _plain(data: Any) -> Any:
    return data if data is None or isinstance(data, (str, int, float, list, dict)) else vars(data)


class Agents:
    """The clients by name."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._clients: dict[str, Held] = {}

    async def carry_out(self, command: str, name: str | list[str], **arguments: Any) -> Any:
        """One client's answer, or those of many, asked at once."""
        if isinstance(name, list):
            return await asyncio.gather(*(self.carry_out(command, one, **arguments) for one in name))
        if command == "open":
            held = Held(self._kind.open(**arguments))
            await held.ready()
            self._clients[name] = held
            return await held.do(self._kind.about)
        if command == "close":
            return await self._clients.pop(name).close()
        work = getattr(self._kind, command)
        return await self._clients[name].do(lambda client: work(client, **arguments))


def main(which: str) -> None:
    """Serve commands until the input ends."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    agents = Agents({"sdk": Sdk, "fastmcp": FastMcp, "openenv": OpenEnv}[which]())
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    for line in sys.stdin:
        try:
            doing = asyncio.run_coroutine_threadsafe(agents.carry_out(**json.loads(line)), loop)
            answer = {"result": doing.result()}
        except Exception as error:  # noqa: BLE001 - whatever it raises is what the test asks about
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
