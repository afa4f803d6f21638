"""Sessions that are less than named ones on Redis: without a name, or in one process's memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.redis_servers import redis_server
from tests.servers import run_server

RESET = {"type": "reset", "data": {"episode_id": "one"}}
STEP = {"type": "step", "data": {"message": "abc"}}


def test_an_anonymous_session_goes_on_when_a_durable_redis_restarts(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path, durable=True) as redis,
        run_server(METAGAME_REDIS_URL=redis.url) as server,
        connect(f"{server.ws_url}/ws") as socket,
    ):
        ask(socket, RESET)
        ask(socket, STEP)
        redis.restart()
        assert ask(socket, STEP)["observation"]["metadata"]["step"] == 2
        assert ask(socket, {"type": "state"}) == {"episode_id": "one", "step_count": 2}


def test_a_named_session_in_memory_survives_its_socket_and_ends_with_its_process() -> None:
    with run_server() as server:
        with connect(f"{server.ws_url}/sessions/kept/ws") as socket:
            ask(socket, RESET)
            ask(socket, STEP)
        with connect(f"{server.ws_url}/sessions/kept/ws") as socket:
            assert ask(socket, STEP)["observation"]["metadata"]["step"] == 2
        port = server.url.rpartition(":")[2]
        server.kill()
    with run_server(METAGAME_PORT=port) as server, connect(f"{server.ws_url}/sessions/kept/ws") as socket:
        assert ask(socket, STEP)["reason"] == "session_lost"


def ask(socket: ClientConnection, frame: dict[str, Any]) -> dict[str, Any]:
    """The data of the answer's frame."""
    socket.send(json.dumps(frame))
    data: dict[str, Any] = json.loads(socket.recv())["data"]
    return data
