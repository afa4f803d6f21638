"""MCP over Streamable HTTP as its specification has it: revisions, headers, sessions, statuses."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.mcp.asking import HANDSHAKE, META, STATELESS, PigWithTools, Rpc, served

pytestmark = pytest.mark.anyio
SAY = {"name": "echo_message", "arguments": {"message": "hi"}}
UUID = "0b0f3c3e-6f4e-4d2c-8a71-6f6d3c5b9a10"
REVISIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]


def envelope(revision: object) -> dict[str, Any]:
    return {META + "protocolVersion": revision, META + "clientCapabilities": {}}


@pytest.fixture
async def rpc(anyio_backend: str) -> AsyncIterator[Rpc]:
    async with served() as one:
        yield one


@pytest.mark.parametrize(("asked", "answered"), [*zip(REVISIONS, REVISIONS, strict=True), ("2099-01-01", HANDSHAKE)])
async def test_initialize_agrees_on_a_revision_and_names_the_session(rpc: Rpc, asked: str, answered: str) -> None:
    answer = await rpc.handshake("initialize", {"protocolVersion": asked}, mcp_protocol_version="")
    result = answer.json()["result"]
    assert result["protocolVersion"] == answered
    assert result["capabilities"] == {"tools": {"listChanged": False}}
    assert set(result["serverInfo"]) == {"name", "version"}
    session_id = answer.headers["mcp-session-id"]
    assert (await rpc.http.get(f"/sessions/{session_id}")).json()["step_count"] == 0
    assert answer.headers["content-type"] == "application/json"


async def test_initialize_is_mcp_whatever_the_headers_say(rpc: Rpc) -> None:
    asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": HANDSHAKE}}
    assert "mcp-session-id" in (await rpc.send(asked)).headers


@pytest.mark.parametrize("params", [{}, {"protocolVersion": 5}])
async def test_initialize_without_a_revision_makes_no_session(rpc: Rpc, params: dict[str, Any]) -> None:
    answer = await rpc.handshake("initialize", params, mcp_protocol_version="")
    assert answer.json()["error"]["code"] == -32602
    assert (await rpc.http.get("/sessions")).json()["sessions"] == []


async def test_a_session_is_stepped_listed_pinged_and_ended(rpc: Rpc) -> None:
    session_id = await rpc.begin()
    told = await rpc.send({"jsonrpc": "2.0", "method": "notifications/initialized"}, mcp_session_id=session_id)
    assert (told.status_code, told.content) == (202, b"")
    assert (await rpc.handshake("ping", mcp_session_id=session_id)).json()["result"] == {}
    assert len((await rpc.handshake("tools/list", mcp_session_id=session_id)).json()["result"]["tools"]) == 2
    for number in (1, 2):
        answer = await rpc.handshake("tools/call", SAY, mcp_session_id=session_id)
        assert answer.json()["result"]["structuredContent"] == {"result": "hi"}
        assert answer.headers["x-session-id"] == session_id
        assert await rpc.steps(session_id) == number
    ended = await rpc.http.delete("/mcp", headers={"mcp-session-id": session_id})
    assert ended.status_code == 204
    for method in ("ping", "tools/list", "tools/call", "nope"):
        lost = await rpc.handshake(method, SAY, mcp_session_id=session_id)
        assert (lost.status_code, lost.json()["error"]["data"]["reason"]) == (404, "session_lost")
    assert (await rpc.http.delete("/mcp", headers={"mcp-session-id": session_id})).status_code == 404


@pytest.mark.parametrize("session_id", ["never-made", "no id of ours"])
async def test_an_unknown_session_is_not_found(rpc: Rpc, session_id: str) -> None:
    assert (await rpc.handshake("tools/list", mcp_session_id=session_id)).status_code == 404


async def test_only_the_session_that_initialize_began_can_be_ended(rpc: Rpc) -> None:
    await rpc.http.post("/sessions/theirs/reset")
    for path, headers in (
        ("/sessions/theirs/mcp", {"mcp-session-id": "theirs"}),
        ("/mcp", {"x-session-id": "theirs", "mcp-session-id": "theirs"}),
        ("/mcp", {"mcp-session-id": "theirs", "mcp-protocol-version": STATELESS}),
    ):
        refused = await rpc.http.delete(path, headers=headers)
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert (await rpc.http.delete("/mcp")).status_code == 400
    assert await rpc.steps("theirs") == 0


async def test_initialize_under_a_path_makes_or_finds_that_session(rpc: Rpc) -> None:
    assert await rpc.begin(x_session_id="mine") == "mine"
    await rpc.handshake("tools/call", SAY, mcp_session_id="mine")
    answer = await rpc.handshake("initialize", {"protocolVersion": HANDSHAKE}, "/sessions/mine/mcp")
    assert answer.headers["mcp-session-id"] == "mine"
    assert await rpc.steps("mine") == 1


async def test_a_request_that_names_two_sessions_is_refused(rpc: Rpc) -> None:
    first, second = await rpc.begin(), await rpc.begin()
    answer = await rpc.handshake("tools/call", SAY, f"/sessions/{first}/mcp", mcp_session_id=second)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32600)
    assert (await rpc.steps(first), await rpc.steps(second)) == (0, 0)


async def test_an_initialize_sent_again_finds_the_session_it_made(rpc: Rpc) -> None:
    assert await rpc.begin(idempotency_key=UUID) == await rpc.begin(idempotency_key=UUID)
    assert await rpc.begin(idempotency_key="1") != await rpc.begin(idempotency_key="1")


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_a_call_sent_again_with_its_key_counts_once(rpc: Rpc, era: str) -> None:
    session_id = await rpc.begin()
    send = getattr(rpc, era)
    answers = [await send("tools/call", SAY, f"/sessions/{session_id}/mcp", idempotency_key="k") for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert await rpc.steps(session_id) == 1


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_a_call_without_a_session_has_one_of_its_own(rpc: Rpc, era: str) -> None:
    for _ in range(20):  # twice as many as there are places
        answer = await getattr(rpc, era)("tools/call", SAY)
        assert answer.json()["result"]["content"] == [{"type": "text", "text": "hi"}]
        assert not {"x-session-id", "mcp-session-id", "set-cookie"} & set(answer.headers)
    assert (await rpc.http.get("/sessions")).json()["sessions"] == []


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_a_call_begins_the_episode_of_a_session_that_never_had_one(rpc: Rpc, era: str) -> None:
    await rpc.http.post("/sessions", json={"session_id": "fresh"})
    assert "result" in (await getattr(rpc, era)("tools/call", SAY, "/sessions/fresh/mcp")).json()
    assert await rpc.steps("fresh") == 1


async def test_the_cookie_of_a_browser_names_no_agents_session(rpc: Rpc) -> None:
    await rpc.http.post("/reset")
    assert "metagame_session" in rpc.http.cookies
    assert "result" in (await rpc.handshake("tools/call", SAY)).json()
    assert (await rpc.http.get("/state")).json()["step_count"] == 0


async def test_a_stateless_server_is_discovered(rpc: Rpc) -> None:
    answer = await rpc.stateless("server/discover")
    result = answer.json()["result"]
    assert result["supportedVersions"] == [*REVISIONS, STATELESS]
    assert result["capabilities"] == {"tools": {"listChanged": False}}
    assert (result["resultType"], result["cacheScope"], result["ttlMs"] > 0) == ("complete", "public", True)
    assert set(result["_meta"][META + "serverInfo"]) == {"name", "version"}
    assert not {"mcp-session-id", "x-session-id"} & set(answer.headers)


async def test_stateless_results_say_what_they_are(rpc: Rpc) -> None:
    await rpc.http.post("/sessions/s/reset")
    for method, params in (("tools/list", None), ("tools/call", SAY)):
        result = (await rpc.stateless(method, params, x_session_id="s")).json()["result"]
        assert (result["resultType"], META + "serverInfo" in result["_meta"]) == ("complete", True)
    assert await rpc.steps("s") == 1


async def test_a_stateless_request_has_no_mcp_session(rpc: Rpc) -> None:
    session_id = await rpc.begin()
    assert "result" in (await rpc.stateless("tools/call", SAY, mcp_session_id=session_id)).json()
    assert await rpc.steps(session_id) == 0


@pytest.mark.parametrize(
    ("status", "code", "changed"),
    [
        (400, -32602, {"params": {"_meta": {}}}),
        (400, -32602, {"params": {"_meta": {META + "protocolVersion": STATELESS}}}),
        (400, -32602, {"params": {"_meta": envelope(5)}}),
        (400, -32022, {"params": {"_meta": envelope("2099-01-01")}, "mcp_protocol_version": "2099-01-01"}),
        (400, -32020, {"mcp_protocol_version": ""}),
        (400, -32020, {"mcp_protocol_version": HANDSHAKE}),
        (400, -32020, {"mcp_method": ""}),
        (400, -32020, {"mcp_method": "tools/list"}),
        (400, -32020, {"mcp_name": ""}),
        (400, -32020, {"mcp_name": "echo_with_length"}),
        (400, -32020, {"mcp_name": "=?base64?!?="}),
        (404, -32601, {"method": "initialize"}),
        (404, -32601, {"method": "ping"}),
        (400, -32602, {"params": {"name": ""}}),
        (400, -32602, {"params": {"name": "nope"}}),
        (400, -32602, {"path": "/sessions/never-made/mcp"}),
    ],
    ids=str,
)
async def test_a_stateless_request_that_is_wrong_is_told_what(
    rpc: Rpc, status: int, code: int, changed: dict[str, Any]
) -> None:
    asked: dict[str, Any] = {"method": "tools/call", "params": SAY} | changed
    asked["params"] = SAY | asked["params"]
    answer = await rpc.stateless(**asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    if code == -32022:
        data = answer.json()["error"]["data"]
        assert (data["supported"], data["requested"]) == ([*REVISIONS, STATELESS], "2099-01-01")


async def test_a_name_in_a_header_may_be_encoded(rpc: Rpc) -> None:
    encoded = f"=?base64?{base64.b64encode(b'echo_message').decode()}?="
    assert "result" in (await rpc.stateless("tools/call", SAY, mcp_name=encoded)).json()


async def test_a_header_that_stands_there_twice_is_refused(rpc: Rpc) -> None:
    headers = [
        ("mcp-protocol-version", STATELESS),
        ("mcp-method", "tools/list"),
        ("mcp-method", "tools/list"),
    ]
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": envelope(STATELESS)}}
    answer = await rpc.http.post("/mcp", json=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize(
    ("body", "code"), [("{", -32700), ([], -32600), ({"jsonrpc": "2.0", "id": 1}, -32600), (b'"\xff"', -32700)]
)
async def test_what_is_no_request_is_a_bad_one(rpc: Rpc, body: Any, code: int) -> None:
    for revision in (HANDSHAKE, STATELESS):
        answer = await rpc.send(body, accept="application/json, text/event-stream", mcp_protocol_version=revision)
        assert (answer.status_code, answer.json()["error"]["code"], answer.json()["id"]) == (400, code, None)


async def test_an_unknown_revision_is_refused_with_those_that_are_spoken(rpc: Rpc) -> None:
    answer = await rpc.handshake("tools/list", mcp_protocol_version="1900-01-01")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32022)
    assert answer.json()["error"]["data"]["supported"] == [*REVISIONS, STATELESS]


async def test_an_unknown_method_is_told_in_the_reply(rpc: Rpc) -> None:
    answer = await rpc.handshake("resources/list")
    assert (answer.status_code, answer.json()["error"]["code"], answer.json()["id"]) == (200, -32601, 7)


async def test_there_is_no_stream_to_listen_to(rpc: Rpc) -> None:
    for path in ("/mcp", "/sessions/s/mcp"):
        answer = await rpc.http.get(path, headers={"accept": "text/event-stream"})
        assert answer.status_code == 405


async def test_a_client_that_takes_no_json_is_told_that_there_is_nothing_else(rpc: Rpc) -> None:
    assert (await rpc.handshake("tools/list", accept="text/event-stream")).status_code == 406
    assert (await rpc.handshake("tools/list", accept="application/json;q=0, text/*;q=0.5")).status_code == 406
    assert (await rpc.handshake("tools/list", accept="*/*")).status_code == 200
    assert (await rpc.handshake("tools/list", accept="text/html, Application/JSON; q=0.05")).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost.evil.example", "http://localhost:1234"]
)
async def test_a_page_of_another_origin_reaches_no_session(rpc: Rpc, origin: str) -> None:
    session_id = await rpc.begin()
    refused = [
        await rpc.handshake("tools/call", SAY, mcp_session_id=session_id, origin=origin),
        await rpc.stateless("tools/call", SAY, x_session_id=session_id, origin=origin),
        await rpc.send({"jsonrpc": "2.0", "id": 1, "method": "openenv/session/create"}, origin=origin),
        await rpc.http.delete("/mcp", headers={"mcp-session-id": session_id, "origin": origin}),
    ]
    assert {answer.status_code for answer in refused} == {403}
    assert await rpc.steps(session_id) == 0
    assert (await rpc.handshake("ping", origin="http://localhost")).status_code == 200


async def test_what_the_agent_got_wrong_is_told_to_the_agent() -> None:
    async with served(PigWithTools()) as rpc:
        session_id = await rpc.begin()
        for tool, arguments, text in (
            ("roll", {"dice": 3}, "Invalid arguments: dice: Input should be 1 or 2"),
            ("hold", {}, "nothing to hold"),
            ("hold", {"why": "not"}, "Invalid arguments: why: Extra inputs are not permitted"),
        ):
            answer = await rpc.handshake(
                "tools/call", {"name": tool, "arguments": arguments}, mcp_session_id=session_id
            )
            result = answer.json()["result"]
            assert (answer.status_code, result["isError"], "structuredContent" in result) == (200, True, False)
            assert text in result["content"][0]["text"]
        assert await rpc.steps(session_id) == 0
