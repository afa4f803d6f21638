"""OpenEnv's JSON-RPC over HTTP, its own socket and `mcp` frames, and tools called by step frames."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.behaviour.apps import running_app
from tests.mcp.asking import Rpc, served
from tests.wire.sockets import WAIT_S, ask, open_socket

pytestmark = pytest.mark.anyio
SAY = {"name": "echo_message", "arguments": {"message": "hi"}}
UUID = "0b0f3c3e-6f4e-4d2c-8a71-6f6d3c5b9a10"
RESULT = {
    "content": [{"type": "text", "text": "hi", "annotations": None, "meta": None}],
    "structured_content": {"result": "hi"},
    "meta": {"fastmcp": {"wrap_result": True}},
    "data": "hi",
    "is_error": False,
}
"""What OpenEnv 0.10 answers for a tool of this name that returns its message."""


@pytest.fixture
async def rpc(anyio_backend: str) -> AsyncIterator[Rpc]:
    async with served() as one:
        yield one


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_app() as one:
        yield one


def rpc_call(method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}


async def create(rpc: Rpc, path: str = "/mcp", **headers: str) -> str:
    return str((await rpc.openenv("openenv/session/create", None, path, **headers))["result"]["session_id"])


async def test_a_result_carries_data_as_fastmcps_results_do(rpc: Rpc) -> None:
    session_id = await create(rpc)
    said = SAY | {"session_id": session_id}
    assert (await rpc.openenv("tools/call", said))["result"] == RESULT
    counted = (await rpc.openenv("tools/call", said | {"name": "echo_with_length"}))["result"]
    assert counted["data"] == counted["structured_content"] == {"message": "hi", "length": 2}
    assert json.loads(counted["content"][0]["text"]) == counted["data"]
    assert counted["meta"] is None
    assert await rpc.steps(session_id) == 2


async def test_the_session_is_named_by_params_path_header_or_query(rpc: Rpc) -> None:
    session_id = await create(rpc)
    await rpc.openenv("tools/call", SAY | {"session_id": session_id})
    await rpc.openenv("tools/call", SAY, f"/sessions/{session_id}/mcp")
    await rpc.openenv("tools/call", SAY, x_session_id=session_id)
    await rpc.openenv("tools/call", SAY, f"/mcp?session_id={session_id}")
    await rpc.openenv("tools/call", SAY | {"session_id": session_id}, f"/sessions/{session_id}/mcp")
    assert await rpc.steps(session_id) == 5


@pytest.mark.parametrize("named", ["other", 5])
async def test_params_that_name_another_session_than_the_path_are_refused(rpc: Rpc, named: object) -> None:
    session_id = await create(rpc)
    reply = await rpc.openenv("tools/call", SAY | {"session_id": named}, f"/sessions/{session_id}/mcp")
    assert reply["error"]["code"] == -32602
    assert await rpc.steps(session_id) == 0


async def test_a_call_that_names_none_has_one_of_its_own(rpc: Rpc) -> None:
    assert (await rpc.openenv("tools/call", SAY))["result"] == RESULT
    assert len((await rpc.openenv("tools/list"))["result"]["tools"]) == 2
    assert (await rpc.http.get("/sessions")).json()["sessions"] == []


async def test_a_created_session_has_its_first_episode(rpc: Rpc) -> None:
    session_id = await create(rpc)
    state = (await rpc.http.get(f"/sessions/{session_id}/state")).json()
    assert (state["step_count"], state["episode_id"] is None) == (0, False)
    assert (await rpc.http.post(f"/sessions/{session_id}/step", json={"action": {"message": "x"}})).status_code == 200


async def test_creating_under_a_path_makes_or_finds_that_session(rpc: Rpc) -> None:
    assert await create(rpc, "/sessions/mine/mcp") == "mine"
    await rpc.openenv("tools/call", SAY, "/sessions/mine/mcp")
    assert await create(rpc, x_session_id="mine") == "mine"
    assert await rpc.steps("mine") == 1


async def test_a_create_sent_again_finds_the_session_it_made(rpc: Rpc) -> None:
    assert await create(rpc, idempotency_key=UUID) == await create(rpc, idempotency_key=UUID)
    assert await create(rpc, idempotency_key="1") != await create(rpc, idempotency_key="1")


async def test_a_closed_session_is_unknown(rpc: Rpc) -> None:
    session_id = await create(rpc)
    closed = await rpc.openenv("openenv/session/close", {"session_id": session_id})
    assert closed["result"] == {"session_id": session_id, "closed": True}
    for method in ("openenv/session/close", "tools/list", "tools/call"):
        error = (await rpc.openenv(method, SAY | {"session_id": session_id}))["error"]
        assert (error["code"], error["message"]) == (-32602, f"Unknown session_id: {session_id}")


@pytest.mark.parametrize("params", [{}, {"session_id": ""}, {"session_id": 5}])
async def test_closing_nothing_is_refused(rpc: Rpc, params: dict[str, Any]) -> None:
    error = (await rpc.openenv("openenv/session/close", params))["error"]
    assert (error["code"], error["message"]) == (-32602, "Invalid params - 'session_id' is required")


async def test_what_the_agent_got_wrong_is_an_error_that_names_the_argument(rpc: Rpc) -> None:
    error = (await rpc.openenv("tools/call", {"name": "echo_message", "arguments": {"message": 5}}))["error"]
    assert (error["code"], error["message"]) == (
        -32602,
        "Invalid arguments: message: Input should be a valid string",
    )
    assert error["data"]["errors"][0]["loc"] == ["message"]


@pytest.mark.parametrize("tool", ["reset", "step", "state", "close", "openenv/session/close"])
async def test_no_tool_and_no_method_reaches_what_runs_the_simulation(rpc: Rpc, tool: str) -> None:
    session_id = await create(rpc)
    assert tool not in {one["name"] for one in (await rpc.openenv("tools/list"))["result"]["tools"]}
    called = await rpc.openenv("tools/call", {"name": tool, "session_id": session_id, "arguments": {}})
    assert called["error"]["code"] == -32602
    if "/" not in tool:
        assert (await rpc.openenv(tool, {"session_id": session_id}))["error"]["code"] == -32601
    assert await rpc.steps(session_id) == 0


async def test_an_action_may_call_a_tool_over_http_too(rpc: Rpc) -> None:
    session_id = await create(rpc)
    action = {"type": "call_tool", "tool_name": "echo_message", "arguments": {"message": "hi"}}
    body = (await rpc.http.post(f"/sessions/{session_id}/step", json={"action": action})).json()
    assert body["observation"]["result"] == RESULT
    assert (body["reward"], body["metadata"]["step"]) == (0.2, 1)


async def test_production_mode_keeps_the_agents_way_in() -> None:
    async with served(mode="production") as production:
        session_id = await create(production)
        assert (await production.openenv("tools/call", SAY | {"session_id": session_id}))["result"] == RESULT
        assert "mcp-session-id" in (await production.handshake("initialize", {"protocolVersion": "2025-11-25"})).headers
        closed = await production.openenv("openenv/session/close", {"session_id": session_id})
        assert closed["result"]["closed"] is True
        assert (await production.http.post(f"/sessions/{session_id}/reset")).status_code == 404


def test_a_socket_of_its_own_has_a_session_that_ends_with_it(url: str) -> None:
    with open_socket(url.replace("http", "ws"), "/mcp") as socket:
        session_id = ask(socket, rpc_call("openenv/session/create"))["result"]["session_id"]
        assert len(ask(socket, rpc_call("tools/list"))["result"]["tools"]) == 2
        assert ask(socket, rpc_call("tools/call", SAY))["result"] == RESULT
        assert ask(socket, rpc_call("tools/call", SAY | {"session_id": session_id}))["result"] == RESULT
        assert ask(socket, rpc_call("tools/call", SAY | {"session_id": "other"}))["error"]["code"] == -32602
        refused = ask(socket, rpc_call("openenv/session/close", {"session_id": session_id}))["error"]
        assert refused["message"] == "Cannot close active WebSocket-managed session via MCP method"
        for wrong, code in (("{", -32700), (b"{}", -32700), ("[]", -32600), ({}, -32600)):
            assert ask(socket, wrong)["error"]["code"] == code
        state = httpx.get(f"{url}/sessions/{session_id}/state", trust_env=False).json()
        assert state["step_count"] == 2
    with open_socket(url.replace("http", "ws"), "/mcp") as another:
        assert ask(another, rpc_call("tools/list", {"session_id": session_id}))["error"]["code"] == -32602


def test_a_socket_on_a_named_session_calls_and_takes_it_from_nobody(url: str) -> None:
    ws = url.replace("http", "ws")
    with open_socket(ws, "/sessions/shared/ws") as trainer:
        ask(trainer, {"type": "reset"})
        for path in ("/sessions/shared/mcp", "/mcp?session_id=shared"):
            with open_socket(ws, path) as agent:
                assert ask(agent, rpc_call("tools/call", SAY))["result"] == RESULT
                assert ask(agent, rpc_call("openenv/session/create"))["result"] == {"session_id": "shared"}
        assert ask(trainer, {"type": "state"})["data"]["step_count"] == 2


@pytest.mark.parametrize("channel", ["direct", "asgi"])
def test_a_socket_that_cannot_be_opened_is_told_why(channel: Any) -> None:
    with running_app(channel=channel, max_sessions=1, max_frame_bytes=1024) as url:
        ws = url.replace("http", "ws")
        with open_socket(ws, "/mcp") as only:
            ask(only, rpc_call("tools/list"))
            for path, code, reason in (("/mcp", -32000, "capacity_reached"), ("/sessions/a%20b/mcp", -32602, None)):
                with open_socket(ws, path) as refused:
                    error = json.loads(refused.recv(timeout=WAIT_S))["error"]
                    assert error["code"] == code
                    assert reason in (None, error["data"]["reason"])
                    with pytest.raises(ConnectionClosed):
                        refused.recv(timeout=WAIT_S)
                assert refused.close_code == 1000
            too_large = ask(only, rpc_call("tools/call", SAY | {"arguments": {"message": "x" * 1024}}))
            assert too_large["error"]["data"]["reason"] == "too_large"
            with pytest.raises(ConnectionClosed):
                only.recv(timeout=WAIT_S)
            assert only.close_code == 1009


def test_a_session_ended_by_others_ends_its_socket(url: str) -> None:
    with open_socket(url.replace("http", "ws"), "/mcp") as socket:
        session_id = ask(socket, rpc_call("openenv/session/create"))["result"]["session_id"]
        assert httpx.delete(f"{url}/sessions/{session_id}", trust_env=False).status_code == 204
        assert ask(socket, rpc_call("tools/call", SAY))["error"]["data"]["reason"] == "session_lost"


def test_mcp_frames_share_the_socket_and_its_session(url: str) -> None:
    with open_socket(url.replace("http", "ws")) as socket:
        ask(socket, {"type": "reset", "data": {"episode_id": "e"}})
        frame = {"type": "mcp", "data": rpc_call("tools/call", SAY)}
        assert ask(socket, frame) == {"type": "mcp", "data": {"jsonrpc": "2.0", "id": 1, "result": RESULT}}
        assert ask(socket, {"type": "step", "data": {"message": "x"}})["data"]["metadata"]["step"] == 2
        assert ask(socket, {"type": "state"})["data"] == {"episode_id": "e", "step_count": 2}
        again = [ask(socket, frame | {"request_id": "r"}) for _ in range(2)]
        assert again[0] == again[1]
        assert again[0]["request_id"] == "r"
        assert ask(socket, {"type": "state"})["data"]["step_count"] == 3
        assert ask(socket, {"type": "mcp", "data": {}})["data"]["error"]["code"] == -32600
        assert ask(socket, {"type": "mcp"})["data"]["code"] == "VALIDATION_ERROR"
        assert ask(socket, frame | {"more": 1})["data"]["code"] == "VALIDATION_ERROR"


def test_a_step_frame_lists_and_calls_tools(url: str) -> None:
    with open_socket(url.replace("http", "ws")) as socket:
        listed = ask(socket, {"type": "step", "data": {"type": "list_tools"}})["data"]
        assert [set(tool) for tool in listed["observation"]["tools"]] == [{"name", "description", "input_schema"}] * 2
        assert (listed["reward"], listed["done"]) == (None, False)
        called = {"type": "call_tool", "tool_name": "echo_message", "arguments": {"message": "hi"}}
        early = ask(socket, {"type": "step", "data": called})
        assert (early["type"], early["data"]["reason"]) == ("error", "no_episode")
        ask(socket, {"type": "reset"})
        seen = ask(socket, {"type": "step", "data": called | {"metadata": {"a": 1}}})["data"]
        assert seen["observation"]["result"] == RESULT
        assert (seen["observation"]["tool_name"], seen["observation"]["error"]) == ("echo_message", None)
        assert (seen["reward"], seen["metadata"]) == (0.2, {"original_message": "hi", "step": 1})
        again = [ask(socket, {"type": "step", "data": called, "request_id": "r"}) for _ in range(2)]
        assert again[0] == again[1]
        assert ask(socket, {"type": "state"})["data"]["step_count"] == 2


@pytest.mark.parametrize(
    ("changed", "kind", "text"),
    [
        ({"tool_name": "nope"}, "tool_not_found", "Unknown tool: 'nope'"),
        ({"tool_name": "reset"}, "tool_not_found", "Unknown tool: 'reset'"),
        ({"arguments": {}}, "invalid_args", "message: Field required"),
        ({"arguments": {"message": 5}}, "invalid_args", "message: Input should be a valid string"),
    ],
)
def test_a_call_that_an_agent_got_wrong_is_an_observation_and_no_step(
    url: str, changed: dict[str, Any], kind: str, text: str
) -> None:
    called = {"type": "call_tool", "tool_name": "echo_message", "arguments": {"message": "hi"}} | changed
    with open_socket(url.replace("http", "ws")) as socket:
        ask(socket, {"type": "reset"})
        seen = ask(socket, {"type": "step", "data": called})
        assert seen["type"] == "observation"
        error = seen["data"]["observation"]["error"]
        assert (error["error_type"], seen["data"]["observation"]["result"]) == (kind, None)
        assert text in error["message"]
        assert ask(socket, {"type": "state"})["data"]["step_count"] == 0


@pytest.mark.parametrize(
    ("data", "loc"),
    [
        ({"type": "call_tool"}, "tool_name"),
        ({"type": "call_tool", "tool_name": "echo_message", "bogus": 1}, "bogus"),
        ({"type": "call_tool", "tool_name": "echo_message", "arguments": [1]}, "arguments"),
        ({"type": "list_tools", "foo": 1}, "foo"),
        ({"type": "nope"}, "message"),
        ({"type": ["call_tool"]}, "message"),
    ],
    ids=str,
)
def test_a_malformed_tool_action_is_the_trainers_mistake(url: str, data: dict[str, Any], loc: str) -> None:
    with open_socket(url.replace("http", "ws")) as socket:
        ask(socket, {"type": "reset"})
        refused = ask(socket, {"type": "step", "data": data})["data"]
        assert (refused["code"], refused["reason"]) == ("VALIDATION_ERROR", "invalid_action")
        assert refused["errors"][0]["loc"] == [loc]
