"""Makes `openenv-0.10.0-tools.json`: OpenEnv's own server with the two tools of its echo environment.

From the top of the checkout, with the environment that holds OpenEnv 0.10 and nothing of ours:

    .venvs/openenv-0.10/bin/python tests/recordings/tools.py
"""

# mypy: ignore-errors
# ruff: noqa: T201 - a script beside its output

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import uvicorn
from fastmcp import FastMCP
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Observation, State
from websockets.sync.client import connect

HERE = Path(__file__).resolve().parent
SAY = {"name": "echo_message", "arguments": {"message": "héé"}}
STEP = {"type": "call_tool", "tool_name": "echo_message", "arguments": {"message": "hi"}}
RESET = {"type": "reset", "data": {"episode_id": "e"}}


class ToolEnvironment(MCPEnvironment):
    """An environment whose steps are calls of tools."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        tools = FastMCP("echo_env")

        @tools.tool
        def echo_message(message: str) -> str:
            """Echo back the provided message.

            Args:
                message: The message to echo back
            """
            return message

        @tools.tool
        def echo_with_length(message: str) -> dict:
            """Echo back the message with its length."""
            return {"message": message, "length": len(message)}

        super().__init__(tools)
        self._state = State(episode_id=str(uuid4()), step_count=0)

    def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> Observation:
        self._state = State(episode_id=episode_id or str(uuid4()), step_count=0)
        return Observation(done=False, reward=0.0, metadata={"status": "ready"})

    def _step_impl(self, action: Any, timeout_s: float | None = None, **_: Any) -> Observation:
        return Observation(done=False, reward=0.0)

    @property
    def state(self) -> State:
        return self._state


def rpc(method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """A JSON-RPC call."""
    return {"jsonrpc": "2.0", "method": method, "id": 1, "params": params or {}}


def step(action: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A step frame."""
    return {"type": "step", "data": action | changed}


def mcp(method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """An `mcp` frame."""
    return {"type": "mcp", "data": rpc(method, params)}


def calls(session_id: str) -> dict[str, dict[str, Any]]:
    """What is asked over HTTP, by name."""
    there = {"session_id": session_id}
    return {
        "tools list": rpc("tools/list", there),
        "tools list without session": rpc("tools/list"),
        "tools call": rpc("tools/call", SAY | there),
        "tools call with length": rpc("tools/call", SAY | {"name": "echo_with_length"} | there),
        "tools call without session": rpc("tools/call", SAY),
        "tools call unknown tool": rpc("tools/call", SAY | {"name": "nope"} | there),
        "tools call reserved name": rpc("tools/call", SAY | {"name": "reset"} | there),
        "tools call wrong type": rpc("tools/call", SAY | {"arguments": {"message": 5}} | there),
        "tools call missing argument": rpc("tools/call", SAY | {"arguments": {}} | there),
        "tools call extra argument": rpc("tools/call", SAY | {"arguments": {"message": "a", "b": 1}} | there),
        "tools call arguments a list": rpc("tools/call", SAY | {"arguments": [1]} | there),
        "tools call no arguments": rpc("tools/call", {"name": "echo_message"} | there),
    }


SOCKETS = {
    "ws step frames": [
        RESET,
        step({"type": "list_tools"}),
        step(STEP),
        step(STEP, tool_name="echo_with_length"),
        step(STEP, metadata={"a": 1}),
    ],
    "ws step frames an agent got wrong": [
        RESET,
        step(STEP, tool_name="nope"),
        step(STEP, arguments={"message": 5}),
        step(STEP, arguments={}),
        step(STEP, arguments={"message": "a", "b": 1}),
    ],
    "ws malformed tool actions": [
        step({"type": "call_tool"}),
        step(STEP, bogus=2),
        step({"type": "list_tools", "foo": 1}),
    ],
    "ws mcp frames": [
        RESET,
        mcp("tools/list"),
        mcp("tools/call", {"name": "echo_message", "arguments": {"message": "hi"}}),
        mcp("openenv/session/create"),
        mcp("openenv/session/close", {"session_id": "nope"}),
        mcp("tools/call"),
    ],
    "mcp ws": [
        rpc("tools/list"),
        rpc("tools/call", {"name": "echo_with_length", "arguments": {"message": "hi"}}),
        rpc("openenv/session/create"),
        rpc("tools/call", {"name": "nope"}),
    ],
}


def main() -> None:
    """Start the server, ask, and write what it answered."""
    app = create_app(ToolEnvironment, CallToolAction, CallToolObservation, env_name="echo_env", max_concurrent_envs=50)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    threading.Thread(target=server.run, args=([listener],), daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    with httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=30) as client:
        made = post(client, "mcp session create", rpc("openenv/session/create"))
        session_id = made["response"]["body"]["result"]["session_id"]
        recorded = [made, *(post(client, name, call) for name, call in calls(session_id).items())]
    recorded += [socket_of(f"ws://{address}", name, frames) for name, frames in SOCKETS.items()]
    server.should_exit = True
    to = HERE / "openenv-0.10.0-tools.json"
    to.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
    print(f"{to.name}: {len(recorded)} exchanges")


def post(client: httpx.Client, name: str, call: dict[str, Any]) -> dict[str, Any]:
    """A call over HTTP, and what came back."""
    got = client.post("/mcp", json=call)
    response = {"status": got.status_code, "content_type": got.headers["content-type"], "body": got.json()}
    asked = {"method": "POST", "path": "/mcp", "json": call}
    return {"kind": "http", "name": name, "request": asked, "response": response}


def socket_of(url: str, name: str, frames: list[dict[str, Any]]) -> dict[str, Any]:
    """Frames on one socket, and what came back."""
    path = "/mcp" if name == "mcp ws" else "/ws"
    exchanges = []
    with connect(url + path, proxy=None) as opened:
        for frame in frames:
            opened.send(json.dumps(frame))
            exchanges.append({"sent": frame, "received": json.loads(opened.recv(timeout=30))})
    return {"kind": "ws", "name": name, "path": path, "exchanges": exchanges}


if __name__ == "__main__":
    main()
