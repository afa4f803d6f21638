"""Each surface's requests are counted, by operation, and their errors, by code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from services.meter.layout import OPERATIONS
from services.surfaces.websocket import OPERATIONS as FRAMES
from tests.behaviour.apps import Channel, running_app
from tests.metrics.scraped import scrape

RESET = {"type": "reset", "data": {}}
STEP = {"type": "step", "data": {"message": "one"}}
STATE = {"type": "state"}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


@pytest.fixture(params=get_args(Channel))
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with running_app(channel=request.param) as url:
        yield url


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, trust_env=False) as client:
        yield client


def socket(url: str, path: str) -> ClientConnection:
    return connect(url.replace("http", "ws", 1) + path, proxy=None, ping_interval=None, compression=None)


def ask(socket: ClientConnection, frame: Any) -> Any:
    socket.send(frame if isinstance(frame, str) else json.dumps(frame))
    return json.loads(socket.recv())


def requests(url: str, surface: str) -> dict[str, float]:
    """By operation, those that there were."""
    counted = scrape(url).counted("metagame_requests_total", "surface", "operation")
    return {operation: value for (at, operation), value in counted.items() if at == surface}


def errors(url: str, surface: str) -> dict[tuple[str, str], float]:
    """By operation and code."""
    counted = scrape(url).counted("metagame_request_errors_total", "surface", "operation", "code")
    return {(operation, code): value for (at, operation, code), value in counted.items() if at == surface}


def test_frames_of_a_socket(url: str) -> None:
    with socket(url, "/sessions/s/ws") as one:
        for frame in (RESET, STEP, STEP, STEP, STATE, {"type": "mcp", "data": LIST}):
            assert ask(one, frame)["type"] != "error"
        one.send(json.dumps({"type": "close"}))
        with pytest.raises(ConnectionClosed):
            one.recv()
    assert requests(url, "websocket") == {"connect": 1, "reset": 1, "step": 3, "state": 1, "mcp": 1, "close": 1}
    assert errors(url, "websocket") == {}


def test_frames_that_are_wrong(url: str) -> None:
    with socket(url, "/sessions/s/ws") as one:
        ask(one, RESET)
        for frame in ("{", "[]", {"type": "hello"}, {"type": "step", "data": {}}, {"type": "step", "data": {"x": 1}}):
            assert ask(one, frame)["type"] == "error"
        unknown = {"jsonrpc": "2.0", "id": 1, "method": "nothing"}
        assert "error" in ask(one, {"type": "mcp", "data": unknown})["data"]
    told = errors(url, "websocket")
    assert told.pop(("unreadable", "INVALID_JSON")) == 1
    assert told.pop(("unreadable", "UNKNOWN_TYPE")) == 1
    assert told.pop(("mcp", "VALIDATION_ERROR")) == 1
    assert {code for _, code in told} == {"VALIDATION_ERROR"}
    assert sum(told.values()) == 3
    asked = requests(url, "websocket")
    assert sum(asked.values()) == 1 + 1 + 5 + 1


def test_a_step_that_is_refused(url: str) -> None:
    """Also one that was begun without a coroutine."""
    with socket(url, "/ws") as one:
        assert ask(one, STEP)["data"]["reason"] == "no_episode"
        ask(one, RESET)
        wrong = STEP | {"data": {"message": "one"}, "expect": {"episode_id": "other", "step_count": 0}}
        assert ask(one, wrong)["data"]["reason"] == "session_moved"
    assert requests(url, "websocket") == {"connect": 1, "reset": 1, "step": 2}
    assert errors(url, "websocket") == {("step", "SESSION_ERROR"): 2}
    reasons = scrape(url).counted("metagame_errors_total", "code", "reason")
    assert reasons == {("SESSION_ERROR", "no_episode"): 1, ("SESSION_ERROR", "session_moved"): 1}


def test_handshakes_that_are_refused() -> None:
    with running_app(max_sessions=1) as url, socket(url, "/ws"):
        with socket(url, "/ws") as full:
            assert json.loads(full.recv())["data"]["code"] == "CAPACITY_REACHED"
        with socket(url, "/ws?session_id=not%20one") as wrong:
            assert json.loads(wrong.recv())["data"]["code"] == "VALIDATION_ERROR"
        assert requests(url, "websocket") == {"connect": 3}
        assert errors(url, "websocket") == {("connect", "CAPACITY_REACHED"): 1, ("connect", "VALIDATION_ERROR"): 1}
        told = scrape(url)
        assert told.counted("metagame_sessions_refused_total", "reason") == {("capacity",): 1}
        assert told.value("metagame_resident_sessions") == told.value("metagame_max_sessions") == 1


def test_http(url: str, http: httpx.Client) -> None:
    assert http.post("/sessions/s/reset", json={}).status_code == 200
    for _ in range(3):
        assert http.post("/sessions/s/step", json={"action": {"message": "one"}}).status_code == 200
    assert http.get("/sessions/s/state").status_code == 200
    assert http.post("/sessions", json={}).status_code == 201
    assert http.get("/sessions").status_code == 200
    assert http.get("/sessions/s").status_code == 200
    assert http.get("/pool").status_code == 200
    assert http.delete("/sessions/s").status_code == 204
    assert requests(url, "http") == dict.fromkeys(OPERATIONS["http"], 1) | {"step": 3}
    assert errors(url, "http") == {}


def test_http_that_is_refused(url: str, http: httpx.Client) -> None:
    assert http.post("/step", json={"action": {"message": "one"}}).status_code == 409
    assert http.post("/sessions/s/reset", content="{", headers={"content-type": "application/json"}).status_code == 422
    assert http.get("/sessions/none/state").status_code == 404
    assert http.get("/sessions?cursor=none").status_code == 422
    assert errors(url, "http") == {
        ("step", "SESSION_ERROR"): 1,
        ("reset", "INVALID_JSON"): 1,
        ("state", "SESSION_ERROR"): 1,
        ("list", "VALIDATION_ERROR"): 1,
    }


def test_that_there_is_no_such_session_is_an_answer_to_who_looked_it_up(url: str, http: httpx.Client) -> None:
    nothing = http.get("/sessions/none")
    assert (nothing.status_code, nothing.json()["reason"]) == (404, "session_lost")
    assert nothing.headers["x-session-id"] == "none"
    assert http.get("/sessions/not%20one").status_code == 400
    assert requests(url, "http") == {"inspect": 2}
    assert errors(url, "http") == {("inspect", "VALIDATION_ERROR"): 1}
    assert http.get("/pool").json()["errors"] == {"VALIDATION_ERROR": 1}


def test_what_is_for_operators_only_and_was_refused(url: str, http: httpx.Client) -> None:
    for path in ("/pool", "/sessions"):
        assert http.get(path, headers={"host": "metagame.example"}).status_code == 403
    assert errors(url, "http") == {("pool", "FORBIDDEN"): 1, ("list", "FORBIDDEN"): 1}
    assert scrape(url).counted("metagame_errors_total", "code", "reason") == {("FORBIDDEN", "forbidden"): 2}
    assert http.get("/pool").json()["errors"] == {"FORBIDDEN": 2}


@pytest.mark.parametrize("path", ["/pool", "/sessions", "/state"])
def test_what_came_without_a_key_is_counted_by_its_code(path: str) -> None:
    with running_app(api_keys="a-good-key-1") as url:
        assert httpx.get(url + path, trust_env=False).status_code == 401
        assert scrape(url).counted("metagame_errors_total", "code", "reason") == {("UNAUTHORIZED", "unauthorized"): 1}
        told = httpx.get(f"{url}/pool", headers={"x-api-key": "a-good-key-1"}, trust_env=False).json()
    assert told["errors"] == {"UNAUTHORIZED": 1}


def test_who_watches_the_pool_is_none_of_its_requests(http: httpx.Client) -> None:
    for _ in range(3):
        assert http.get("/pool").json()["requests"]["total"] == 0
    http.get("/state")
    assert http.get("/pool").json()["requests"]["total"] == 1


def test_both_dialects_of_mcp(url: str, http: httpx.Client) -> None:
    def call(method: str, params: Any = None, headers: dict[str, str] | None = None) -> httpx.Response:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
        return http.post("/mcp", json=body, headers=headers)

    mcp = {"accept": "application/json, text/event-stream"}
    began = call("initialize", {"protocolVersion": "2025-11-25"}, mcp)
    named = mcp | {"mcp-session-id": began.headers["mcp-session-id"]}
    echo = {"name": "echo_message", "arguments": {"message": "one"}}
    assert call("ping", None, named).json()["result"] == {}
    assert not call("tools/call", echo, named).json()["result"].get("isError")
    assert call("tools/call", echo | {"arguments": {}}, named).json()["result"]["isError"]
    created = call("openenv/session/create").json()["result"]["session_id"]
    assert "result" in call("tools/list", {"session_id": created}).json()
    assert "result" in call("openenv/session/close", {"session_id": created}).json()
    assert call("nothing").json()["error"]["code"] == -32601
    assert (
        call("initialize", {"protocolVersion": "2025-11-25"}, {"accept": "text/html, text/event-stream"}).status_code
        == 406
    )
    with socket(url, "/mcp") as one:
        assert "result" in ask(one, LIST)
    asked = requests(url, "mcp")
    assert asked == {
        "initialize": 2,
        "connect": 1,
        "other": 2,
        "tools/call": 2,
        "tools/list": 2,
        "session/create": 1,
        "session/close": 1,
    }
    assert errors(url, "mcp") == {("tools/call", "VALIDATION_ERROR"): 1, ("other", "VALIDATION_ERROR"): 1}


def test_a_scrape_is_no_request_of_a_surface(url: str) -> None:
    assert scrape(url).counted("metagame_requests_total", "surface", "operation") == {}
    assert scrape(url).counted("metagame_requests_total", "surface", "operation") == {}


def test_two_apps_in_one_process_count_for_themselves(url: str, http: httpx.Client) -> None:
    with running_app() as other:
        http.post("/reset", json={})
        assert requests(url, "http") == {"reset": 1}
        assert requests(other, "http") == {}


def test_every_kind_of_frame_is_an_operation() -> None:
    assert set(FRAMES.values()) | {"connect", "unreadable"} == set(OPERATIONS["websocket"])
