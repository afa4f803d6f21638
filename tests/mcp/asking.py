"""JSON-RPC as a raw client sends it, in both dialects, and a game with tools, an end and a fault."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict

from metagame.games import Game, Observation, State, Tool
from services.app import create_app
from services.settings import Settings
from services.store.base import SessionStore
from services.store.memory import MemoryStore
from tests.games.pig import PigGame

META = "io.modelcontextprotocol/"
STATELESS = "2026-07-28"
HANDSHAKE = "2025-11-25"


class Roll(BaseModel):
    """How many dice."""

    model_config = ConfigDict(extra="forbid")

    dice: Literal[1, 2] = 1


class Nothing(BaseModel):
    """No arguments."""

    model_config = ConfigDict(extra="forbid")


class PigWithTools(PigGame):
    """Pig for agents; one of its tools is broken before the step, and one behind it."""

    @property
    def tools(self) -> tuple[Tool, ...]:
        return (
            Tool("roll", "Roll dice.", Roll, _roll, lambda seen: seen.fields["rolled"], list[int]),
            Tool("hold", "Bank the turn.", Nothing, lambda _: {"move": "hold"}, _banked, int),
            Tool("broken", "Breaks at once.", Nothing, _broken, _banked, int),
            Tool("mute", "Breaks when it is to speak.", Nothing, lambda _: {"move": "roll"}, _broken, int),
        )


class BrokenGame(PigWithTools):
    """Its steps fail."""

    def step(self, state: State, action: BaseModel) -> tuple[State, Observation]:
        return state, _broken(action)


def _roll(arguments: Roll) -> dict[str, Any]:
    return {"move": "roll", "dice": arguments.dice}


def _banked(seen: Observation) -> Any:
    return seen.fields["banked"]


def _broken(given: object) -> Any:
    message = f"secret detail of {given!r}"
    raise ZeroDivisionError(message)


class Rpc:
    """One server's `/mcp`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def openenv(
        self, method: str, params: dict[str, Any] | None = None, path: str = "/mcp", **headers: str
    ) -> dict[str, Any]:
        """OpenEnv's dialect: the reply, whose status is always 200."""
        answer = await self.send({"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}}, path, **headers)
        assert answer.status_code == 200
        reply: dict[str, Any] = answer.json()
        assert (reply["jsonrpc"], reply["id"]) == ("2.0", 7)
        return reply

    async def handshake(
        self, method: str, params: dict[str, Any] | None = None, path: str = "/mcp", **headers: str
    ) -> httpx.Response:
        """A request of a revision that begins with `initialize`."""
        said = {"accept": "application/json, text/event-stream", "mcp_protocol_version": HANDSHAKE} | headers
        return await self.send({"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}}, path, **said)

    async def stateless(
        self, method: str, params: dict[str, Any] | None = None, path: str = "/mcp", **headers: str
    ) -> httpx.Response:
        """A request of a revision whose every request says all."""
        meta = {META + "protocolVersion": STATELESS, META + "clientCapabilities": {}}
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": {"_meta": meta} | (params or {})}
        said = {"accept": "application/json, text/event-stream", "mcp_protocol_version": STATELESS}
        said |= {"mcp_method": method} | ({"mcp_name": str(params["name"])} if params and "name" in params else {})
        return await self.send(body, path, **said | headers)

    async def send(self, body: Any, path: str = "/mcp", **headers: str) -> httpx.Response:
        """Any body; an empty header is left out."""
        named = {name.replace("_", "-"): value for name, value in headers.items() if value}
        content = {"content": body} if isinstance(body, (str, bytes)) else {"json": body}
        return await self.http.post(path, headers={"content-type": "application/json"} | named, **content)

    async def begin(self, **headers: str) -> str:
        """Initialize; the session's id."""
        answer = await self.handshake("initialize", {"protocolVersion": HANDSHAKE}, mcp_protocol_version="", **headers)
        assert answer.status_code == 200, answer.text
        return answer.headers["mcp-session-id"]

    async def steps(self, session_id: str) -> int:
        """How many steps the session's episode has."""
        return int((await self.http.get(f"/sessions/{session_id}/state")).json()["step_count"])


@asynccontextmanager
async def served(game: Game | None = None, store: SessionStore | None = None, **settings: Any) -> AsyncIterator[Rpc]:
    """An app in this process."""
    settings = {"redis_timeout_s": 0.2} | settings
    store = store or MemoryStore(max_sessions=settings.get("max_sessions", 10), ttl_ms=60_000)
    app = create_app(Settings(**settings), game, store)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield Rpc(http)
