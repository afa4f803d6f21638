"""Makes `openenv-0.10.0-production.json`: OpenEnv's own server in production mode, with tasks.

From the top of the checkout, with the environment that holds OpenEnv 0.10 and nothing of ours:

    .venvs/openenv-0.10/bin/python tests/recordings/production.py
"""

# mypy: ignore-errors
# ruff: noqa: T201 - a script beside its output

import json
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from pydantic import Field
from websockets.sync.client import connect

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[1] / "bench")]

from openenv.core.env_server.http_server import create_app  # noqa: E402 - behind the path
from reference import EchoAction, EchoEnvironment, EchoObservation  # noqa: E402 - behind the path

from tests.games.tasks import Tasks  # noqa: E402 - behind the path


class MetaGameAction(EchoAction):
    """The same under the names and with the descriptions of the other recordings."""

    message: str = Field(..., description="Message to echo back")


class MetaGameObservation(EchoObservation):
    """The same."""

    echoed_message: str = Field(default="", description="The echoed message")
    message_length: int = Field(default=0, description="Length of the echoed message")


class MetaGameEnvironment(Tasks, EchoEnvironment):
    """The echo, with tasks."""


def post(name: str, path: str, body: Any = None, **request: Any) -> dict[str, Any]:
    """A request with a JSON body, or with the one that `content` gives."""
    asked = {"method": "POST", "path": path} | ({"json": body} if "content" not in request else request)
    return {"kind": "http", "name": name, "request": asked}


def get(name: str, path: str, method: str = "GET") -> dict[str, Any]:
    """A request without a body."""
    return {"kind": "http", "name": name, "request": {"method": method, "path": path}}


JSON = {"content-type": "application/json"}
ENV = "/meta_game_env"
ASKED = [
    get("health", "/health"),
    get("metadata", "/metadata"),
    get("schema", "/schema"),
    get("openapi", "/openapi.json"),
    post("reset", "/reset", {}),
    get("reset GET", "/reset"),
    post("step", "/step", {"action": {"message": "hi"}}),
    get("state", "/state"),
    post("state POST", "/state", {}),
    get("list_environments", "/list_environments"),
    get("splits", f"{ENV}/splits"),
    get("splits in capitals", "/META_GAME_ENV/splits"),
    get("splits of another", "/nope/splits"),
    get("splits DELETE", f"{ENV}/splits", "DELETE"),
    post("tasks", f"{ENV}/tasks", {"split": "train"}),
    post("tasks of none", f"{ENV}/tasks", {"split": "odd"}),
    post("tasks of an unknown split", f"{ENV}/tasks", {"split": "nope"}),
    post("tasks of another", "/nope/tasks", {"split": "train"}),
    post("tasks of another without a split", "/nope/tasks", {}),
    post("tasks without a split", f"{ENV}/tasks", {}),
    post("tasks extra field", f"{ENV}/tasks", {"split": "train", "index": 0}),
    post("tasks without a body", f"{ENV}/tasks", content="", headers=JSON),
    post("tasks bad json", f"{ENV}/tasks", content="{", headers=JSON),
    post("tasks array", f"{ENV}/tasks", []),
    get("tasks GET", f"{ENV}/tasks"),
    post("num_tasks", f"{ENV}/num_tasks", {"split": "train"}),
    post("task", f"{ENV}/task", {"split": "train", "index": 1}),
    post("task from the end", f"{ENV}/task", {"split": "hard", "index": -1}),
    post("task out of range", f"{ENV}/task", {"split": "train", "index": 3}),
    post("task without an index", f"{ENV}/task", {"split": "train"}),
    post("task wrong type", f"{ENV}/task", {"split": 5, "index": "first"}),
    post("task_range all", f"{ENV}/task_range", {"split": "train"}),
    post("task_range some", f"{ENV}/task_range", {"split": "train", "start": 1, "stop": 2}),
    post("task_range too many", f"{ENV}/task_range", {"split": "train", "start": -2, "stop": 99}),
    post("task_range null", f"{ENV}/task_range", {"split": "train", "start": None, "stop": None}),
]
EPISODE = [
    {"type": "reset", "data": {"episode_id": "e"}},
    {"type": "step", "data": {"message": "abcd"}},
    {"type": "state"},
    {"type": "close"},
]


def main() -> None:
    """Ask, and write down what was answered."""
    app = create_app(
        MetaGameEnvironment, MetaGameAction, MetaGameObservation, env_name="meta_game_env", mode="production"
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    threading.Thread(target=server.run, args=([listener],), daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    # Each on a connection of its own: that server drops one where an environment failed.
    with httpx.Client(base_url=f"http://{address}", trust_env=False, headers={"connection": "close"}) as client:
        recorded = [one | {"response": answer(client, one["request"])} for one in ASKED]
    recorded.append({"kind": "ws", "name": "ws episode", "path": "/ws", "exchanges": list(episode(f"ws://{address}"))})
    server.should_exit = True
    to = HERE / "openenv-0.10.0-production.json"
    to.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
    print(f"{to.name}: {len(recorded)} exchanges")


def answer(client: httpx.Client, asked: dict[str, Any]) -> dict[str, Any]:
    """What came back."""
    got = client.request(
        asked["method"],
        asked["path"],
        headers=JSON if "json" in asked else asked.get("headers"),
        content=json.dumps(asked["json"]) if "json" in asked else asked.get("content"),
    )
    content_type = got.headers.get("content-type")
    body = got.json() if content_type == "application/json" else got.text
    if asked["path"] == "/openapi.json":
        paths = {path: sorted(methods) for path, methods in body["paths"].items()}
        body = {"info": body["info"], "paths": paths}
    return {"status": got.status_code, "content_type": content_type, "body": body}


def episode(url: str) -> Any:
    """A socket's episode; the answer to the last frame is its end."""
    with connect(f"{url}/ws", proxy=None) as socket_:
        for frame in EPISODE[:-1]:
            socket_.send(json.dumps(frame))
            yield {"sent": frame, "received": json.loads(socket_.recv(timeout=10))}
        socket_.send(json.dumps(EPISODE[-1]))
        try:
            socket_.recv(timeout=10)
        except Exception:  # noqa: BLE001 - however it ends
            closed = {"code": socket_.close_code, "reason": socket_.close_reason}
        yield {"sent": EPISODE[-1], "received": None, "closed": closed}


if __name__ == "__main__":
    main()
