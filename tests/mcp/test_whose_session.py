"""An agent ends what an agent began, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.servers import Server, run_server

MODES = ("simulation", "production")


@pytest.fixture(scope="module", params=MODES)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with run_server(METAGAME_MODE=request.param) as one:
        yield one


def rpc(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def post(server: Server, call: dict[str, Any], path: str = "/mcp", **headers: str) -> httpx.Response:
    return httpx.post(server.url + path, json=call, headers=headers, trust_env=False)


def close(server: Server, session_id: str, path: str = "/mcp") -> dict[str, Any]:
    answer: dict[str, Any] = post(server, rpc("openenv/session/close", session_id=session_id), path).json()
    return answer


def delete(server: Server, session_id: str) -> httpx.Response:
    return httpx.delete(f"{server.url}/mcp", headers={"mcp-session-id": session_id}, trust_env=False)


def test_a_trainers_session_is_not_ended_by_its_agent(server: Server) -> None:
    with connect(f"{server.ws_url}/sessions/mine/ws", proxy=None) as trainer:
        trainer.send('{"type": "reset", "data": {"episode_id": "one"}}')
        trainer.recv()
        for refused in (close(server, "mine"), close(server, "mine", "/sessions/mine/mcp")):
            assert refused["error"]["data"]["reason"] == "invalid_request"
            assert "whoever made it" in refused["error"]["message"]
        with connect(f"{server.ws_url}/sessions/mine/mcp", proxy=None) as agent:
            agent.send(json.dumps(rpc("openenv/session/close", session_id="mine")))
            assert "whoever made it" in json.loads(agent.recv())["error"]["message"]
        assert (delete(server, "mine").status_code, delete(server, "mine").headers["allow"]) == (405, "POST")
        trainer.send('{"type": "state"}')
        assert json.loads(trainer.recv())["data"]["episode_id"] == "one"
        trainer.send('{"type": "close"}')


def test_a_session_that_was_made_for_an_agent_is_its_makers_to_end() -> None:
    with run_server() as server:
        httpx.post(f"{server.url}/sessions", json={"session_id": "made"}, trust_env=False)
        assert "whoever made it" in close(server, "made")["error"]["message"]
        assert delete(server, "made").status_code == 405
        assert httpx.get(f"{server.url}/sessions/made", trust_env=False).status_code == 200


def test_an_agent_ends_what_an_agent_began_in_either_dialect(server: Server) -> None:
    first = post(server, rpc("openenv/session/create")).json()["result"]["session_id"]
    began = post(server, rpc("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={}))
    second = began.headers["mcp-session-id"]
    assert close(server, first)["result"] == {"session_id": first, "closed": True}
    assert delete(server, second).status_code == 204
    assert "Unknown session_id" in close(server, first)["error"]["message"]
    assert delete(server, second).status_code == 404


def test_a_path_that_names_one_session_closes_no_other(server: Server) -> None:
    other = post(server, rpc("openenv/session/create")).json()["result"]["session_id"]
    refused = close(server, other, "/sessions/mine/mcp")["error"]
    assert refused["data"]["reason"] == "invalid_params"
    assert close(server, other)["result"]["closed"] is True


def test_deleting_is_not_among_the_methods_of_a_named_session(server: Server) -> None:
    answer = httpx.delete(f"{server.url}/sessions/mine/mcp", trust_env=False)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_session_that_is_gone_is_said_to_whom_it_concerns(server: Server) -> None:
    lost = post(server, rpc("ping"), **{"mcp-session-id": "gone", "mcp-protocol-version": "2025-11-25"})
    assert (lost.status_code, lost.json()["error"]["message"].endswith("Initialize again.")) == (404, True)


@pytest.mark.parametrize(
    ("host", "status"), [("evil.example", 403), ("localhost", 200), ("127.0.0.1", 200), ("[::1]", 200)]
)
def test_a_website_whose_name_was_made_to_lead_here_has_no_agents_door(server: Server, host: str, status: int) -> None:
    port = server.url.rpartition(":")[2]
    named = {"Host": f"{host}:{port}", "Origin": f"http://{host}:{port}"}
    assert post(server, rpc("tools/list"), **named).status_code == status
    for came_from, answered in (("203.0.113.5", 200), ("203.0.113.5, 127.0.0.1", 200), ("127.0.0.1", status)):
        behind_a_proxy = named | {"X-Forwarded-For": came_from}
        assert post(server, rpc("tools/list"), **behind_a_proxy).status_code == answered
