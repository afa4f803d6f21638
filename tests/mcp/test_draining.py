"""A worker that leaves, and the sockets of `/mcp`."""

from __future__ import annotations

import signal

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.servers import run_server
from tests.wire.sockets import WAIT_S, ask, open_socket

CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "echo_message", "arguments": {"message": "hi"}},
}


def test_a_draining_worker_closes_named_sockets_and_answers_the_others_to_their_end() -> None:
    with (
        run_server(METAGAME_DRAIN_TIMEOUT_S="20") as server,
        httpx.Client(base_url=server.url, trust_env=False) as http,
        open_socket(server.ws_url, "/mcp") as own,
        open_socket(server.ws_url, "/sessions/named/mcp") as named,
    ):
        http.post("/sessions/named/reset")
        for socket in (own, named):
            assert "result" in ask(socket, CALL)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            named.recv(timeout=WAIT_S)
        assert named.close_code == 1012
        assert ask(own, CALL)["result"]["data"] == "hi"
        answer = http.post("/mcp", json=CALL)
        assert (answer.json()["result"]["data"], answer.headers["connection"]) == ("hi", "close")
        own.close()
        assert server.process.wait(WAIT_S) in {0, -signal.SIGTERM}
