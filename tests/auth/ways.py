"""Every way in to a server, behind one border: what it says to a request that carries these headers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

WAIT_S = 10.0
STEP = {"action": {"message": "x"}}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


@dataclass(frozen=True, slots=True)
class Said:
    """An answer; of a socket that opened the status is 101 and the body what it answered to its first frame."""

    status: int
    body: Any
    headers: Mapping[str, str]
    subprotocol: str | None = None


Way = Callable[..., Said]


def over_http(method: str, path: str, body: Any = None) -> Way:
    """A request."""

    def ask(url: str, headers: Mapping[str, str], _subprotocols: Sequence[str] = ()) -> Said:
        with httpx.Client(trust_env=False, timeout=WAIT_S) as client:
            answer = client.request(method, url + path, headers=dict(headers), json=body)
        is_json = answer.headers.get("content-type", "") == "application/json"
        return Said(answer.status_code, answer.json() if is_json and answer.content else answer.text, answer.headers)

    return ask


def by_socket(path: str, frame: Any) -> Way:
    """A socket, and the answer to one frame."""

    def ask(url: str, headers: Mapping[str, str], subprotocols: Sequence[str] = ()) -> Said:
        offered = [Subprotocol(one) for one in subprotocols] or None
        address = "ws" + url.removeprefix("http") + path
        try:
            with connect(address, additional_headers=dict(headers), subprotocols=offered, proxy=None) as socket:
                socket.send(json.dumps(frame))
                answer = json.loads(socket.recv(timeout=WAIT_S))
                assert socket.response is not None
                return Said(101, answer, dict(socket.response.headers), socket.subprotocol)
        except InvalidStatus as refused:
            response = refused.response
            return Said(response.status_code, json.loads(response.body or b"null"), response.headers)

    return ask


SOCKETS: dict[str, Way] = {
    "socket": by_socket("/ws", {"type": "reset"}),
    "socket by path": by_socket("/sessions/keyed/ws", {"type": "reset"}),
    "MCP socket": by_socket("/mcp", CALL),
    "MCP socket by path": by_socket("/sessions/keyed/mcp", CALL),
}
REQUESTS: dict[str, Way] = {
    "reset": over_http("POST", "/reset", {}),
    "state": over_http("GET", "/state"),
    "reset by path": over_http("POST", "/sessions/keyed/reset", {}),
    "step by path": over_http("POST", "/sessions/keyed/step", STEP),
    "state by path": over_http("GET", "/sessions/keyed/state"),
    "make": over_http("POST", "/sessions", {"session_id": "keyed"}),
    "list": over_http("GET", "/sessions"),
    "inspect": over_http("GET", "/sessions/keyed"),
    "pool": over_http("GET", "/pool"),
    "MCP": over_http("POST", "/mcp", CALL),
    "MCP by path": over_http("POST", "/sessions/keyed/mcp", CALL),
    "tasks": over_http("GET", "/list_environments"),
    "schema": over_http("GET", "/schema"),
    "metadata": over_http("GET", "/metadata"),
    "docs": over_http("GET", "/docs"),
    "OpenAPI": over_http("GET", "/openapi.json"),
    "end": over_http("DELETE", "/sessions/keyed"),
}
WAYS = SOCKETS | REQUESTS
