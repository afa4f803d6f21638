"""One line for each event in the life of a session, a worker and the store, and none for a step."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from metagame import __version__
from services.logs import Writer
from services.records import session_hash
from tests.logs.lines import Line, events, lines, until
from tests.redis_servers import RedisServer, redis_server
from tests.servers import ROOT, Server, run_server

ALWAYS = {"event", "level", "timestamp", "worker"}


@pytest.fixture
def server(redis_at: RedisServer) -> Iterator[Server]:
    """Its log goes to a file, so it is JSON."""
    with run_server(METAGAME_REDIS_URL=redis_at.url, METAGAME_MAX_SESSIONS="3") as server:
        yield server


def test_what_a_client_names_is_shown_on_a_terminal_and_not_obeyed() -> None:
    name = "\x1b[31mred\x1b[0m \u202egnol \x07"
    with run_server(METAGAME_LOG_FORMAT="console") as server:
        httpx.post(f"{server.url}/sessions/s/reset", json={"episode_id": name}, trust_env=False)
        server.terminate()
        [line] = [line for line in server.log.splitlines() if "session made" in line]
    assert "\ufffd[31mred\ufffd[0m \ufffdgnol \ufffd" in line
    assert not {"\u202e", "\x07"} & set(line)


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        yield client


def opened(server: Server, path: str) -> ClientConnection:
    return connect(server.ws_url + path, proxy=None, ping_interval=None)


def ask(socket: ClientConnection, kind: str, request_id: str | None = None, **data: Any) -> Any:
    named = {} if request_id is None else {"request_id": request_id}
    socket.send(json.dumps({"type": kind, **({"data": data} if kind in {"reset", "step"} else {}), **named}))
    return json.loads(socket.recv())


def last_word(socket: ClientConnection) -> Any:
    """The reason in the frame that comes unasked before a close."""
    said = json.loads(socket.recv())["data"]["reason"]
    with pytest.raises(ConnectionClosed):
        socket.recv()
    return said


def told(line: Line) -> Line:
    """What a line says of its event."""
    assert line.keys() >= ALWAYS
    return {key: value for key, value in line.items() if key not in ALWAYS}


def test_the_life_of_a_named_session(server: Server) -> None:
    session_id, request_id = uuid4().hex, uuid4().hex
    path, session = f"/sessions/{session_id}/ws", session_hash(session_id)
    about = {"session": session, "episode": "e-1"}
    with opened(server, path) as first:
        ask(first, "reset", request_id, episode_id="e-1")
        made = until(server, "session made")
        assert told(made) == about | {"origin": "named", "attached": True, "request": session_hash(request_id)}
        ask(first, "step", message="one")
    assert told(until(server, "socket detached")) == about | {"reason": "left"}
    with opened(server, path) as second:
        assert told(until(server, "session resumed")) == about | {"reason": "no socket had it", "step": 1}
        with opened(server, path) as third:
            over = about | {"reason": "another socket had it, or died with it", "step": 1}
            assert told(until(server, "session taken over")) == over
            until(server, "socket lost its session", **about, reason="taken over")
            assert last_word(second) == "session_taken_over"
            until(server, "socket detached", **about, reason="taken over")
            third.send(json.dumps({"type": "close"}))
            assert told(until(server, "session ended")) == about | {"reason": "closed"}
    names = [line["event"] for line in events(server, session)]
    assert len(names) == 7, "one line an event, and none for a step"


def test_the_life_of_a_session_without_a_name(server: Server) -> None:
    with opened(server, "/ws") as one:
        made = until(server, "session made")
        assert told(made) == {"session": made["session"], "origin": "anonymous", "attached": True}
        ask(one, "reset", episode_id="e-2")
    ended = until(server, "session ended")
    assert told(ended) == {"session": made["session"], "episode": "e-2", "reason": "left"}
    assert [line["event"] for line in events(server, made["session"])] == ["session made", "session ended"]


def test_the_life_of_a_session_that_was_asked_for(server: Server, http: httpx.Client) -> None:
    assert http.post("/sessions", json={"session_id": "asked"}).status_code == 201
    assert http.delete("/sessions/asked").status_code == 204
    about = {"session": session_hash("asked")}
    assert told(until(server, "session made")) == about | {"origin": "made", "attached": False}
    assert told(until(server, "session ended")) == about | {"reason": "asked"}
    assert [line["event"] for line in events(server, about["session"])] == ["session made", "session ended"]


def test_a_socket_on_a_session_without_an_episode_is_attached_and_resumes_nothing(
    server: Server, http: httpx.Client
) -> None:
    http.post("/sessions", json={"session_id": "asked"})
    about = {"session": session_hash("asked")}
    for event, more in (("socket attached", {}), ("session resumed", {"episode": "e-1"})):
        with opened(server, "/sessions/asked/ws") as one:
            assert told(until(server, event)) == about | more | {"reason": "no socket had it", "step": 0}
            ask(one, "reset", episode_id="e-1")
        until(server, "socket detached", episode="e-1", reason="left")
    assert [line["event"] for line in events(server, about["session"])].count("session resumed") == 1


def test_a_socket_that_outlives_its_session_leaves_none_behind(server: Server, http: httpx.Client) -> None:
    http.post("/sessions", json={"session_id": "outlived"})
    about = {"session": session_hash("outlived")}
    with opened(server, "/sessions/outlived/ws") as one:
        ask(one, "reset", episode_id="e-3")
        assert http.delete("/sessions/outlived").status_code == 204
    left = until(server, "socket detached", **about)
    assert told(left) == about | {"episode": "e-3", "reason": "the session had gone"}


def test_a_full_pool_refuses_loudly(server: Server, http: httpx.Client) -> None:
    for number in range(3):
        http.post("/sessions", json={"session_id": f"s-{number}"})
    assert http.post("/sessions/late/reset", json={}).status_code == 503
    refused = told(until(server, "session refused"))
    assert refused == {"session": session_hash("late"), "reason": "capacity", "active": 3}


def test_the_life_of_a_worker(server: Server) -> None:
    started = until(server, "worker started")
    about = {"version": __version__, "game": "meta_game", "store": started["store"]}
    assert told(started) == about | {"pid": server.process.pid}
    assert re.fullmatch("[0-9a-f]{8}", started["worker"])
    with opened(server, "/ws"):
        server.process.terminate()
        assert told(until(server, "worker draining")) == {"sockets": 1, "named": 0}
    assert server.process.wait(20) == 0
    assert [line["event"] for line in lines(server)][-2:] == ["worker drained", "worker stopped"]
    assert {line["worker"] for line in lines(server)} == {started["worker"]}


def test_redis_lost_and_back(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, run_server(METAGAME_REDIS_URL=redis.url) as server:
        redis.stop()
        lost = until(server, "the session store cannot be reached")
        assert lost["level"] == "warning"
        assert {"reason", "remedy"} <= told(lost).keys()
        with opened(server, "/sessions/s/ws") as refused:
            assert last_word(refused) == "unavailable"
        assert told(until(server, "session refused")) == {"session": session_hash("s"), "reason": "unavailable"}
        redis.start()
        assert until(server, "the session store is back")["level"] == "info"


def test_a_step_has_a_line_only_where_that_is_asked_for(redis_at: RedisServer) -> None:
    with run_server(METAGAME_REDIS_URL=redis_at.url, METAGAME_LOG_STEPS="true") as server:
        with opened(server, "/sessions/s/ws") as one:
            ask(one, "reset", episode_id="e-3")
            ask(one, "step", "r-1", message="something said")
        stepped = told(until(server, "step committed"))
        assert stepped.pop("took_ms") > 0
        about = {"session": session_hash("s"), "episode": "e-3"}
        assert stepped == about | {"step": 1, "request": session_hash("r-1")}
        assert until(server, "reset committed", **about, step=0)


def test_the_episodes_name_is_cut_short(server: Server, http: httpx.Client) -> None:
    http.post("/sessions/s/reset", json={"episode_id": "e" * 100})
    assert until(server, "session made")["episode"] == "e" * 64


def test_what_the_server_beneath_logs_is_json_too(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as wire:
        wire.sendall(b"this is no request\r\n\r\n")
        wire.recv(1000)
    assert until(server, "Invalid HTTP request received.")["level"] == "warning"


def test_lines_are_written_together_and_a_warning_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.logs.LATE_S", 0.01)
    file, now = Written(), datetime.now(UTC)
    writer = Writer(file, lambda method, _, line: f"{method} {line['event']}".encode())

    async def turn() -> None:
        writer.info("info", now, {"event": "1"})
        writer.info("info", now, {"event": "2"})
        assert file.writes == []
        async with asyncio.timeout(10):
            await file.written.wait()
        assert file.writes == [b"info 1\ninfo 2\n"]
        writer.info("info", now, {"event": "3"})
        writer.warning("error", now, {"event": "4"})
        assert file.writes[1:] == [b"info 3\nerror 4\n"]

    asyncio.run(turn())
    writer.info("info", now, {"event": "5"})
    assert file.writes[2:] == [b"info 5\n"], "where no event loop runs it does not wait"


class Written(io.BytesIO):
    """A file that remembers what was written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.written = asyncio.Event()

    def write(self, data: Any, /) -> int:
        self.writes.append(bytes(data))
        self.written.set()
        return len(data)


@pytest.mark.parametrize("asked", ["console", None])
def test_on_a_terminal_lines_are_for_people(asked: str | None) -> None:
    """Unless JSON is asked for; elsewhere they are JSON unless these are."""
    shown = on_a_terminal({} if asked is None else {"METAGAME_LOG_FORMAT": asked})
    assert "sessions live in this process's memory" in shown
    assert "{" not in shown
    assert '"event"' in on_a_terminal({"METAGAME_LOG_FORMAT": "json"})
    with run_server(METAGAME_LOG_FORMAT="console") as server:
        assert "{" not in server.log
        assert "worker=" in server.log


def on_a_terminal(env: dict[str, str]) -> str:
    """What a server's start writes to a terminal."""
    ours, theirs = pty.openpty()
    look = "import services.app; services.app.app"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("METAGAME_")}
    try:
        subprocess.run([sys.executable, "-c", look], cwd=ROOT, env=clean | env, stderr=theirs, check=True)
        return os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
