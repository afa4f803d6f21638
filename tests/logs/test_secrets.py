"""Nothing that is a client's or a key to anything stands in what a server writes, whatever happens to it."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.logs.lines import LIMIT_S
from tests.redis_servers import redis_server
from tests.servers import Server, run_server

PASSWORD = "hunter2-" + uuid4().hex


class Secrets:
    """Words that must not be seen again, each said in another place."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {"password": PASSWORD}

    def new(self, what: str) -> str:
        """A word of its own, also one that passes for a request id that names a session."""
        return self.said.setdefault(what, str(uuid4()))


def play(server: Server, secrets: Secrets) -> None:
    """Everything a client may do, right and wrong."""
    with httpx.Client(base_url=server.url, trust_env=False, timeout=LIMIT_S) as http:
        over_http(http, secrets)
        over_mcp(http, secrets)
    on_sockets(server, secrets)


def over_http(http: httpx.Client, secrets: Secrets) -> None:
    new, json_body = secrets.new, {"content-type": "application/json"}
    at = f"/sessions/{new('session id in a path')}"
    http.post(f"{at}/reset", json={"seed": 3, "request_id": new("request id"), "note": new("an option")})
    for _ in range(2):
        http.post(f"{at}/step", json={"action": {"message": new("message")}, "request_id": new("request id of a step")})
    http.post(f"{at}/step", json={"action": {"message": [new("message of the wrong type")]}})
    http.post(f"{at}/step", json={"action": {new("field"): new("value of a field")}})
    http.post(f"{at}/step", content=f'{{"{new("broken JSON")}', headers=json_body)
    http.post(f"{at}/step", json={"action": {"message": new("message that is too long") * 40}})
    http.post("/step", json={"action": {"message": "x"}}, headers={"x-session-id": new("session id in a header")})
    http.post("/reset", json={}, headers={"idempotency-key": new("idempotency key")})
    http.get("/state", headers={"cookie": f"metagame_session={new('session id in a cookie')}"})
    http.get(f"/state?session_id={new('session id in a query')}")
    http.get(f"/nowhere/{new('path')}?{new('query')}", headers={"authorization": f"Bearer {new('bearer')}"})
    http.get("/sessions", headers={"x-api-key": new("api key")})
    http.post("/sessions", json={"session_id": new("session id in a body")})
    http.delete(f"/sessions/{secrets.said['session id in a body']}")
    http.get(f"/sessions?cursor={new('cursor')}")


def over_mcp(http: httpx.Client, secrets: Secrets) -> None:
    new = secrets.new
    echo = {"name": "echo_message", "arguments": {"message": new("argument of a tool")}}
    named = {"mcp-session-id": new("session id of MCP"), "accept": "application/json, text/event-stream"}
    for method, params in (("tools/call", echo), (new("method"), {}), ("openenv/session/create", {})):
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        http.post("/mcp", json=body)
        http.post("/mcp", json=body, headers=named)


def on_sockets(server: Server, secrets: Secrets) -> None:
    new = secrets.new
    frames = [
        {"type": "reset", "data": {}, "request_id": new("request id of a frame")},
        {"type": "step", "data": {"message": new("message in a frame")}},
        {"type": "step", "data": {"message": new("message refused")}, "expect": {"episode_id": "x", "step_count": 9}},
        {"type": new("type of a frame")},
        {"type": "mcp", "data": {"method": new("method in a frame")}},
    ]
    said: list[str | bytes] = [*map(json.dumps, frames), new("a frame that is no JSON"), new("bytes").encode()]
    said.append(json.dumps({"type": "step", "data": {"message": new("long message in a frame") * 400}}))
    for path in (f"/sessions/{new('session id of a socket')}/ws", "/ws", "/ws?session_id=not%20a%20name"):
        url = server.ws_url + path
        for _ in range(2):
            with connect(url, proxy=None, ping_interval=None) as one, suppress(ConnectionClosed):
                for frame in said:
                    one.send(frame)
                    one.recv()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(new("bytes that are no request").encode() + b"\r\n\r\n")
        raw.recv(1000)


@pytest.mark.parametrize(("log_format", "workers"), [("json", 2), ("console", 1)])
def test_nothing_that_is_said_or_opens_anything_is_written(tmp_path: Path, log_format: str, workers: int) -> None:
    secrets = Secrets()
    with redis_server(tmp_path) as redis:
        with redis.client() as client:
            client.config_set("requirepass", PASSWORD)
        variables = {
            "METAGAME_REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:{redis.port}/0",
            "METAGAME_LOG_FORMAT": log_format,
            "METAGAME_LOG_STEPS": "true",
            "METAGAME_MAX_MESSAGE_LENGTH": "1000",
            "METAGAME_MAX_FRAME_BYTES": "4096",
            "METAGAME_REDIS_TIMEOUT_S": "0.2",
            "METAGAME_WORKERS": str(workers),
        }
        with run_server(**variables) as server:
            play(server, secrets)
            redis.stop()
            play(server, secrets)
            assert server.terminate() == 0
            written = server.log
    assert "step committed" in written, "there is something to look through"
    assert "cannot be reached" in written
    assert len(secrets.said) > 25
    assert {what: word for what, word in secrets.said.items() if word in written} == {}
