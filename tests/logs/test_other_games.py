"""Under plain uvicorn, where a game of one's own is served, the log is the same."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
from websockets.sync.client import connect

from services.records import session_hash
from tests.containers.engine import wait_until
from tests.games.served import pig_server

SESSION = "a-key-to-a-session"


def test_its_log_is_json_names_its_worker_and_holds_no_session_id(tmp_path: Path) -> None:
    with pig_server(tmp_path) as (url, log):
        assert httpx.post(f"{url}/sessions/{SESSION}/reset", trust_env=False).status_code == 200
        with connect(f"{url.replace('http', 'ws')}/sessions/{SESSION}/ws", proxy=None) as socket:
            socket.send('{"type":"state"}')
            socket.recv()
        wait_until(lambda: "socket detached" in log.read_text(), "the socket's end")
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        [made] = [line for line in lines if line["event"] == "session made"]
        assert (made["session"], len(made["worker"])) == (session_hash(SESSION), 8)
        assert SESSION not in log.read_text()
