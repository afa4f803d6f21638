"""Recorded exchanges, sent again to a server of ours, and the two answers compared.

A difference is a line of text: where, what was recorded, what came now. Values that are random by
nature count as equal where both have their form.

    status: 200 -> 409
    body.code: + "VALIDATION_ERROR"          ours has it, the recording has not
    body.detail.0.url: - "https://…"         the recording has it, ours has not
    2.received.data.reward: 1.0 -> 1.3       the third exchange of a socket
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.servers import run_server

RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"
RELEASES = ("0.10.0", "0.1.1", "0.10.0-tools")
"""The last is 0.10.0 with OpenEnv's own echo in place of the scaffold: two tools, made with FastMCP;
recorded by `recordings/tools.py`."""
PRODUCTION = "0.10.0-production"
"""The same release in production mode, with tasks: recorded by `recordings/production.py`."""
PAGE = "0.10.0-web"
"""The routes of the same release's own page: recorded by `recordings/web.py`."""
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
LONG = 1000
"""Recordings show longer messages by their length."""
WAIT_S = 10.0
OPEN = {"status": 101, "body": ""}
PROBE = '{"type":"state","request_id":"probe"}'
"""Answered with its request id, so that it tells a frame that came unasked."""

FULL = {"METAGAME_MAX_SESSIONS": "1"}
SECOND_SOCKETS: dict[str, tuple[str | None, dict[str, str]]] = {
    "ws attach while already attached": (None, {}),
    "ws second connection when max_concurrent_envs=1": (None, FULL),
    "mcp session create when at capacity": ("/ws", FULL),
    "mcp session close while ws attached": ("/ws?session_id={session_id}", {}),
}
"""Exchanges recorded while another socket was open: on which path, if not the same, and the server's settings."""


def exchanges(release: str) -> list[dict[str, Any]]:
    recorded: list[dict[str, Any]] = json.loads((RECORDINGS / f"openenv-{release}.json").read_text())
    return recorded


def replay_all(release: str, url: str) -> Iterator[tuple[str, str]]:
    """Each exchange's name and a difference, in the recorded order, by one client that keeps cookies.

    Where the recorded server made a session, the exchanges after it name the one that ours has made.
    """
    made: dict[str, str] = {}
    with client_of(url) as client:
        for exchange in exchanges(release):
            recorded = _renamed(exchange, made)
            with _other_socket(recorded, url) as asked:
                if recorded["kind"] == "ws":
                    ours = replay_socket(recorded, _ws(asked))
                elif asked == url:
                    ours = replay_http(recorded, client)
                else:
                    with client_of(asked) as another:
                        ours = replay_http(recorded, another)
            made |= _made(exchange, ours)
            for line in differences(expected(recorded), ours):
                yield recorded["name"], line


def client_of(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, trust_env=False, timeout=WAIT_S)


def replay_http(recorded: dict[str, Any], client: httpx.Client) -> dict[str, Any]:
    """The answer to a recorded request, in the recording's form."""
    asked = recorded["request"]
    answer = client.request(
        asked["method"],
        asked["path"],
        headers={"content-type": "application/json"} if "json" in asked else asked.get("headers"),
        content=json.dumps(asked["json"]) if "json" in asked else asked.get("content"),
    )
    content_type = answer.headers.get("content-type")
    body: Any = answer.json() if content_type == "application/json" else answer.text
    if recorded["name"] == "openapi":
        paths = {path: sorted(methods) for path, methods in body["paths"].items()}
        body = {"info": body["info"], "paths": paths}
    return {"status": answer.status_code, "content_type": content_type, "body": body}


def replay_socket(recorded: dict[str, Any], url: str) -> dict[str, Any]:
    """What a socket did with the recorded frames: `handshake`, then one entry for each recorded one."""
    try:
        socket = connect(url + recorded.get("path", "/ws"), open_timeout=WAIT_S, max_size=None, proxy=None)
    except InvalidStatus as refused:
        response = refused.response
        return {"handshake": {"status": response.status_code, "body": (response.body or b"").decode()}}
    with socket:
        steps = [_replay_step(step, socket) for step in recorded.get("exchanges", [])]
    return {"handshake": OPEN} | {str(number): step for number, step in enumerate(steps)}


def expected(recorded: dict[str, Any]) -> dict[str, Any]:
    """A recording in the form that the replays answer in."""
    if recorded["kind"] == "http":
        response: dict[str, Any] = recorded["response"]
        return response
    if "exception" in recorded:
        status = re.search(r"status_code=(\d+)", recorded["exception"])
        assert status is not None
        return {"handshake": {"status": int(status[1]), "body": ""}}
    steps = [{key: value for key, value in step.items() if key != "sent"} for step in recorded["exchanges"]]
    handshake = recorded.get("handshake", OPEN)
    return {"handshake": handshake} | {str(number): step for number, step in enumerate(steps)}


def differences(recorded: Any, ours: Any, where: str = "") -> Iterator[str]:
    """Lines that say how an answer differs from the recorded one."""
    if isinstance(recorded, dict) and isinstance(ours, dict):
        for key in [*recorded, *(key for key in ours if key not in recorded)]:
            at = f"{where}.{key}".lstrip(".")
            if key not in ours:
                yield f"{at}: - {_shown(recorded[key])}"
            elif key not in recorded:
                yield f"{at}: + {_shown(ours[key])}"
            else:
                yield from differences(recorded[key], ours[key], at)
    elif isinstance(recorded, list) and isinstance(ours, list) and len(recorded) == len(ours):
        for number, (one, other) in enumerate(zip(recorded, ours, strict=True)):
            yield from differences(one, other, f"{where}.{number}")
    elif not _equal(recorded, ours):
        yield f"{where}: {_shown(recorded)} -> {_shown(ours)}"


def _equal(recorded: Any, ours: Any) -> bool:
    if isinstance(recorded, str) and isinstance(ours, str) and UUID.fullmatch(recorded):
        return UUID.fullmatch(ours) is not None
    return type(recorded) is type(ours) and bool(recorded == ours)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONG else text[: LONG - 1] + "…"


def _renamed(exchange: dict[str, Any], made: dict[str, str]) -> dict[str, Any]:
    """The exchange with our sessions' ids for the recorded ones."""
    text = json.dumps(exchange)
    for theirs, ours in made.items():
        text = text.replace(theirs, ours)
    renamed: dict[str, Any] = json.loads(text)
    return renamed


def _made(exchange: dict[str, Any], ours: dict[str, Any]) -> dict[str, str]:
    """The recorded id and ours of the session that this exchange made over HTTP, if it did."""
    if not exchange["name"].startswith("mcp session create"):
        return {}
    ids = [body["result"]["session_id"] for body in (_body(exchange.get("response")), _body(ours)) if "result" in body]
    return {ids[0]: ids[1]} if len(ids) == 2 else {}


def _body(answer: Any) -> dict[str, Any]:
    body = (answer or {}).get("body")
    return body if isinstance(body, dict) else {}


def _ws(url: str) -> str:
    return "ws" + url.removeprefix("http")


@contextmanager
def _other_socket(recorded: dict[str, Any], url: str) -> Iterator[str]:
    """The server to ask, with the other socket open that the recording had."""
    if recorded["name"] not in SECOND_SOCKETS:
        yield url
        return
    with ExitStack() as stack:
        path, settings = SECOND_SOCKETS[recorded["name"]]
        if path is not None:
            path = path.format(session_id=recorded["request"]["json"]["params"].get("session_id"))
        asked = stack.enter_context(run_server(**settings)).url if settings else url
        other = _ws(asked) + (path or recorded.get("path", "/ws"))
        stack.enter_context(connect(other, open_timeout=WAIT_S, proxy=None))
        yield asked


def _replay_step(step: dict[str, Any], socket: ClientConnection) -> dict[str, Any]:
    """One recorded exchange of a socket, again."""
    if "sent" in step:
        socket.send(_frame(step["sent"]))
        got: dict[str, Any] = {"received": _received(socket)}
        if "closed" in step and got["received"] is None:
            got["closed"] = _closed(socket)
        return got
    kind: Callable[[ClientConnection], Any] = _unsolicited if "unsolicited" in step else _closed
    return {next(iter(step)): kind(socket)}


def _frame(sent: Any) -> str | bytes:
    if sent == "<step with 200000-char message>":
        return json.dumps({"type": "step", "data": {"message": "x" * 200_000}})
    if isinstance(sent, str):
        binary = re.fullmatch(r"<binary b'(.*)'>", sent)
        return binary[1].encode() if binary else sent
    return json.dumps(sent)


def _received(socket: ClientConnection) -> Any:
    try:
        frame = json.loads(socket.recv(timeout=WAIT_S))
    except ConnectionClosed:
        return None
    return _trimmed(frame)


def _unsolicited(socket: ClientConnection) -> Any:
    """The frame that came unasked; null where the first frame to come answers a question of ours."""
    try:
        socket.send(PROBE)
    except ConnectionClosed:
        pass
    else:
        frame = _received(socket)
        return None if isinstance(frame, dict) and frame.get("request_id") == "probe" else frame
    return _received(socket)


def _closed(socket: ClientConnection) -> Any:
    """How the socket was closed; null where it still answers."""
    try:
        socket.send(PROBE)
        socket.recv(timeout=WAIT_S)
    except ConnectionClosed:
        return {"code": socket.close_code, "reason": socket.close_reason}
    return None


def _trimmed(frame: Any) -> Any:
    """A frame with long messages as the recordings show them."""
    data = frame.get("data", {}) if isinstance(frame, dict) else {}
    observation = data.get("observation", {})
    message = observation.get("echoed_message", "")
    if len(message) > LONG:
        observation["echoed_message"] = f"<{len(message)} chars>"
        for metadata in (observation["metadata"], data["metadata"]):
            metadata["original_message"] = "<trimmed>"
    return frame
