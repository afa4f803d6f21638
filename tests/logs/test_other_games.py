"""A game of somebody's own, served as the guide has it, under plain uvicorn: the log is the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from services.records import session_hash
from tests.containers.engine import wait_until
from tests.redis_servers import free_port
from tests.servers import ROOT

APP = """
from services.app import open_app
from tests.games.pig import PigGame

app = open_app(PigGame())
"""
SESSION = "a-key-to-a-session"


@pytest.fixture
def written(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of the game's server, and the file that all it writes is in."""
    Path(tmp_path, "pig_server.py").write_text(APP)
    port, log = free_port(), tmp_path / "log"
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "METAGAME_LOG_FORMAT": "json"}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "pig_server:app", "--port", str(port)],
            env=env,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "worker started" in log.read_text(), "the server")
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(url), "an answer")
        yield url, log
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_its_log_is_json_names_its_worker_and_holds_no_session_id(written: tuple[str, Path]) -> None:
    url, log = written
    assert httpx.post(f"{url}/sessions/{SESSION}/reset", trust_env=False).status_code == 200
    with connect(f"{url.replace('http', 'ws')}/sessions/{SESSION}/ws", proxy=None) as socket:
        socket.send('{"type":"state"}')
        socket.recv()
    wait_until(lambda: "socket detached" in log.read_text(), "the socket's end")
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    [made] = [line for line in lines if line["event"] == "session made"]
    assert (made["session"], len(made["worker"])) == (session_hash(SESSION), 8)
    assert SESSION not in log.read_text()
