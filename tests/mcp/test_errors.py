"""Every JSON-RPC error: provoked over the wire, with the code that the one table gives it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from metagame import errors
from metagame.errors import BY_REASON, TABLE, MetaGameError
from services.records import generation_after
from services.store.base import Draft, Origin, StoreUnavailable
from services.store.memory import MemoryStore
from tests.behaviour.apps import running_app
from tests.games.pig import PigGame
from tests.mcp.asking import BrokenGame, PigWithTools, Rpc, served
from tests.wire.sockets import INTERNAL, WAIT_S, ask, open_socket

pytestmark = pytest.mark.anyio
Provoked = Callable[[Rpc], Awaitable[dict[str, Any]]]
SAY = {"name": "echo_message", "arguments": {"message": "x"}}


async def _invalid_request(rpc: Rpc) -> Any:
    return (await rpc.send([1])).json()


async def _invalid_json(rpc: Rpc) -> Any:
    return (await rpc.send("{")).json()


async def _invalid_action(rpc: Rpc) -> dict[str, Any]:
    return await rpc.openenv("tools/call", {"name": "echo_message", "arguments": {"message": 5}})


async def _invalid_session_id(rpc: Rpc) -> dict[str, Any]:
    return await rpc.openenv("tools/list", {"session_id": "a b"})


async def _request_conflict(rpc: Rpc) -> dict[str, Any]:
    await rpc.openenv("tools/call", SAY, "/sessions/e/mcp", idempotency_key="r")
    other = {"name": "echo_message", "arguments": {"message": "other"}}
    return await rpc.openenv("tools/call", other, "/sessions/e/mcp", idempotency_key="r")


async def _answer_forgotten(rpc: Rpc) -> dict[str, Any]:
    for key in ("first", "second"):
        await rpc.openenv("tools/call", SAY, "/sessions/e/mcp", idempotency_key=key)
    return await rpc.openenv("tools/call", SAY, "/sessions/e/mcp", idempotency_key="first")


async def _unknown_method(rpc: Rpc) -> dict[str, Any]:
    return await rpc.openenv("reset")


async def _invalid_params(rpc: Rpc) -> dict[str, Any]:
    return await rpc.openenv("tools/call", {"name": "echo_message", "arguments": [1]})


async def _unknown_tool(rpc: Rpc) -> dict[str, Any]:
    return await rpc.openenv("tools/call", {"name": "step", "arguments": {}})


async def _header_mismatch(rpc: Rpc) -> Any:
    return (await rpc.stateless("tools/list", mcp_method="tools/call")).json()


async def _unsupported_revision(rpc: Rpc) -> Any:
    return (await rpc.handshake("tools/list", mcp_protocol_version="1900-01-01")).json()


async def _session_lost(rpc: Rpc) -> dict[str, Any]:
    return await rpc.openenv("tools/call", SAY, "/sessions/never-made/mcp")


PROVOKED: dict[type[MetaGameError], Provoked] = {
    errors.InvalidRequest: _invalid_request,
    errors.InvalidJson: _invalid_json,
    errors.InvalidAction: _invalid_action,
    errors.InvalidSessionId: _invalid_session_id,
    errors.RequestConflict: _request_conflict,
    errors.AnswerForgotten: _answer_forgotten,
    errors.UnknownMethod: _unknown_method,
    errors.InvalidParams: _invalid_params,
    errors.UnknownTool: _unknown_tool,
    errors.HeaderMismatch: _header_mismatch,
    errors.UnsupportedRevision: _unsupported_revision,
    errors.SessionLost: _session_lost,
}
ELSEWHERE = {
    errors.NoTools: "below, by a game without tools",
    errors.EpisodeOver: "below, by a game with an end",
    errors.GameFailed: "below, by a game that breaks",
    errors.CapacityReached: "below, by a server with one place",
    errors.Unavailable: "below, by a store that is away",
    errors.NoEpisode: "below, by a socket without an episode",
    errors.SessionMoved: "below, by a socket that another client's reset passed by",
    errors.SessionTakenOver: "below, by a newer socket",
    errors.TooLarge: "below: over HTTP it is no JSON-RPC, since no call was read",
    errors.SessionError: "never: it is the kind of those beneath it",
    errors.Unauthorized: "tests/auth: it leaves before any call is read",
    errors.Forbidden: "never: what is for operators is no tool",
    errors.UnknownFrameType: "never: a JSON-RPC call has no frame type",
}


@pytest.fixture
async def rpc(anyio_backend: str) -> AsyncIterator[Rpc]:
    async with served() as one:
        await one.http.post("/sessions", json={"session_id": "e"})
        yield one


def check(reply: dict[str, Any], kind: type[MetaGameError]) -> dict[str, Any]:
    """The error of a reply, as the table says."""
    assert "result" not in reply
    error: dict[str, Any] = reply["error"]
    assert (error["code"], BY_REASON[error["data"]["reason"]]) == (TABLE[kind].rpc_code, kind)
    assert not INTERNAL.search(json.dumps(reply))
    assert "secret" not in json.dumps(reply)
    return error


def test_every_error_of_the_table_is_provoked_here() -> None:
    assert set(PROVOKED) | set(ELSEWHERE) == set(TABLE)
    assert not set(PROVOKED) & set(ELSEWHERE)


@pytest.mark.parametrize("kind", PROVOKED, ids=lambda kind: kind.__name__)
async def test_an_error_leaves_with_the_tables_code(rpc: Rpc, kind: type[MetaGameError]) -> None:
    check(await PROVOKED[kind](rpc), kind)


async def test_a_game_without_tools_says_what_the_reference_says() -> None:
    async with served(PigGame()) as rpc:
        for method, params in (("tools/list", {}), ("tools/call", {"name": "roll"})):
            error = check(await rpc.openenv(method, params), errors.NoTools)
            assert error["message"] == "Environment does not support MCP"
        began = (await rpc.handshake("initialize", {"protocolVersion": "2025-11-25"})).json()["result"]
        assert began["capabilities"] == {}
        assert (await rpc.handshake("tools/list")).json()["result"] == {"tools": []}
        check((await rpc.handshake("tools/call", {"name": "roll"})).json(), errors.NoTools)


async def test_an_episode_that_is_over_takes_no_call() -> None:
    async with served(PigWithTools()) as rpc:
        await rpc.http.post("/sessions/p/reset", json={"seed": 1, "target": 1})
        for tool in ("roll", "hold") * 20:
            reply = await rpc.openenv("tools/call", {"name": tool}, "/sessions/p/mcp")
            if "error" in reply and reply["error"]["data"]["reason"] != "invalid_action":
                break
        check(reply, errors.EpisodeOver)
        told = (await rpc.handshake("tools/call", {"name": "roll"}, "/sessions/p/mcp")).json()["result"]
        assert told["isError"] is True
        assert "This episode is over" in told["content"][0]["text"]


@pytest.mark.parametrize(
    ("game", "tool", "stepped"),
    [(BrokenGame(), "roll", 0), (PigWithTools(), "broken", 0), (PigWithTools(), "mute", 1)],
    ids=["a step", "before the step", "behind the step"],
)
async def test_a_game_that_breaks_tells_nothing_internal(game: PigWithTools, tool: str, stepped: int) -> None:
    async with served(game) as rpc:
        await rpc.http.post("/sessions/p/reset")
        check(await rpc.openenv("tools/call", {"name": tool}, "/sessions/p/mcp"), errors.GameFailed)
        assert await rpc.steps("p") == stepped
        told = (await rpc.handshake("tools/call", {"name": tool}, "/sessions/p/mcp")).json()["result"]
        assert told["isError"] is True
        assert "secret" not in json.dumps(told)


async def test_a_full_pool_says_how_full() -> None:
    async with served(max_sessions=1) as rpc:
        await rpc.openenv("openenv/session/create")
        for method, params in (("openenv/session/create", {}), ("tools/call", SAY)):
            error = check(await rpc.openenv(method, params), errors.CapacityReached)
            assert error["message"] == "Server at capacity: 1/1 sessions active. Cannot accept new connections."
            assert (error["data"]["active_sessions"], error["data"]["max_sessions"]) == (1, 1)
        full = await rpc.handshake("initialize", {"protocolVersion": "2025-11-25"})
        check(full.json(), errors.CapacityReached)
        assert "mcp-session-id" not in full.headers


class AwayStore(MemoryStore):
    """Gives no answer."""

    async def load(self, session_id: str) -> Any:
        raise StoreUnavailable(session_id, unknown=False)


async def test_a_store_that_is_away_is_said_to_be_and_the_call_can_be_sent_again() -> None:
    async with served(store=AwayStore(max_sessions=1, ttl_ms=60_000)) as rpc:
        error = check(await rpc.openenv("tools/call", SAY, "/sessions/e/mcp"), errors.Unavailable)
        assert error["data"]["retryable"] is True
        check((await rpc.stateless("tools/call", SAY, "/sessions/e/mcp")).json(), errors.Unavailable)


async def newer_store() -> MemoryStore:
    """Holds a session that a newer release wrote."""
    store = MemoryStore(max_sessions=10, ttl_ms=60_000)
    await store.make("s", Draft(Origin.MADE, generation_after(None), b"9 what is to come"))
    return store


async def test_what_a_newer_release_wrote_is_left_to_another_worker() -> None:
    async with served(store=await newer_store()) as rpc:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": SAY}
        for headers in ({}, {"mcp_session_id": "s"}):
            answer = await rpc.send(body, "/sessions/s/mcp", **headers)
            assert check(answer.json(), errors.Unavailable)["data"]["retryable"] is True
            assert answer.headers["connection"] == "close"


def test_a_socket_closes_behind_what_a_newer_release_wrote() -> None:
    store = asyncio.run(newer_store())
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": SAY}
    with running_app(store=store) as url, open_socket(url.replace("http", "ws"), "/sessions/s/mcp") as socket:
        check(ask(socket, call), errors.Unavailable)
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=WAIT_S)
        assert socket.close_code == 1012


def test_sockets_are_told_by_frame() -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": SAY}
    with running_app() as url:
        ws = url.replace("http", "ws")
        with open_socket(ws) as anonymous:
            check(ask(anonymous, {"type": "mcp", "data": call})["data"], errors.NoEpisode)
        with open_socket(ws, "/sessions/s/ws") as older:
            ask(older, {"type": "reset"})
            with open_socket(ws, "/sessions/s/mcp") as agent:  # takes the session from nobody
                assert "result" in ask(agent, call)
            assert "result" in ask(older, {"type": "mcp", "data": call})["data"]
            with open_socket(ws, "/sessions/s/ws") as newer:
                check(ask(older, {"type": "mcp", "data": call})["data"], errors.SessionTakenOver)
                with pytest.raises(ConnectionClosed):
                    older.recv(timeout=WAIT_S)
                assert older.close_code == TABLE[errors.SessionTakenOver].close_code
                with open_socket(ws, "/sessions/s/ws") as newest:
                    ask(newest, {"type": "reset"})
                    check(ask(newer, {"type": "mcp", "data": call})["data"], errors.SessionTakenOver)


def test_a_socket_that_did_not_see_the_episode_calls_nothing_in_it() -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": SAY}
    with running_app() as url, open_socket(url.replace("http", "ws"), "/sessions/s/ws") as socket:
        ask(socket, {"type": "reset"})
        httpx.post(url + "/sessions/s/reset", trust_env=False)
        check(ask(socket, {"type": "mcp", "data": call})["data"], errors.SessionMoved)


async def test_a_body_over_the_limit_is_refused_before_it_is_a_call() -> None:
    async with served(max_frame_bytes=1024) as rpc:
        answer = await rpc.send({"jsonrpc": "2.0", "id": 1, "method": "x" * 1024})
        assert (answer.status_code, answer.json()["reason"]) == (413, "too_large")
