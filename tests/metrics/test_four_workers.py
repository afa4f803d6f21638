"""Four workers under one supervisor: a scrape of any adds up to what the load did, exactly, deaths or not."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.metrics.scraped import Scrape, scrape
from tests.redis_servers import RedisServer
from tests.servers import Server, run_server

WORKERS = 4
SOCKETS = 24
HTTP_SESSIONS = 12
STEPS = 10
LIMIT_S = 30.0


class Load:
    """Sockets and requests, each counted as it is answered."""

    def __init__(self, server: Server, stack: ExitStack) -> None:
        self._stack = stack
        self._url = server.url
        self._ws_url = server.ws_url
        self.sockets: dict[str, ClientConnection] = {}
        self.asked: Counter[tuple[str, str]] = Counter()

    def open(self, session_id: str) -> None:
        url = f"{self._ws_url}/sessions/{session_id}/ws"
        socket = connect(url, proxy=None, ping_interval=None, compression=None)
        self.sockets[session_id] = self._stack.enter_context(socket)
        self.asked["websocket", "connect"] += 1

    def frame(self, session_id: str, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        socket = self.sockets[session_id]
        socket.send(json.dumps({"type": kind, "data": data} if kind != "state" else {"type": kind}))
        answer: dict[str, Any] = json.loads(socket.recv())
        assert answer["type"] != "error", answer
        self.asked["websocket", kind] += 1
        return answer

    def request(self, session_id: str, verb: str, body: dict[str, Any]) -> None:
        """On a connection of its own, so that any worker may have it."""
        with httpx.Client(trust_env=False, timeout=LIMIT_S) as http:
            assert http.post(f"{self._url}/sessions/{session_id}/{verb}", json=body).status_code == 200
        self.asked["http", verb] += 1

    def steps(self) -> None:
        """The same number of steps of each."""
        for number in range(STEPS):
            for session_id in self.sockets:
                self.frame(session_id, "step", {"message": f"step {number}"})
            for number_of in range(HTTP_SESSIONS):
                self.request(f"http-{number_of}", "step", {"action": {"message": "one"}})

    def broken(self) -> list[str]:
        """Sockets that a death has cut; the others answer."""
        cut = []
        for session_id in list(self.sockets):
            try:
                self.frame(session_id, "state", {})
            except ConnectionClosed:
                self.sockets.pop(session_id).close()
                cut.append(session_id)
        return cut


def test_a_scrape_adds_up_to_what_the_load_did_though_workers_are_killed(redis_at: RedisServer, tmp_path: Path) -> None:
    environment = {"METAGAME_REDIS_URL": redis_at.url, "METAGAME_WORKERS": str(WORKERS), "TMPDIR": str(tmp_path)}
    with run_server(**environment) as server, ExitStack() as stack:
        stack.callback(server.terminate)  # killed alone, as when this fails, it would leave its workers
        until(lambda: serving(server) == WORKERS, "all workers")
        load = Load(server, stack)
        for number in range(SOCKETS):
            load.open(f"socket-{number}")
            load.frame(f"socket-{number}", "reset", {})
        for number in range(HTTP_SESSIONS):
            load.request(f"http-{number}", "reset", {})
        load.steps()
        check(scrape(server.url), load)
        came_back = 0
        for _ in range(2):  # the second time there is a dead worker's file, to be folded
            came_back += lose_a_worker(server, load)
            load.steps()
            told = scrape(server.url)
            check(told, load)
            assert told.value("metagame_sessions_resumed_total") == came_back
            assert told.value("metagame_sessions_taken_over_total") == came_back
        [folder] = tmp_path.glob("metagame-meter-*")
        assert len(list(folder.glob("*.cells"))) == WORKERS
        for socket in load.sockets.values():
            socket.close()
        until(lambda: scrape(server.url).value("metagame_attached_sessions") == 0, "all sockets' end")
        assert server.terminate() == 0
    assert list(tmp_path.glob("metagame-meter-*")) == []


def lose_a_worker(server: Server, load: Load) -> int:
    """Kill the worker with the most sockets, wait until another has taken its place, and open its sockets again."""
    os.kill(max(pids(server), key=descriptors), signal.SIGKILL)
    cut = load.broken()
    assert cut
    told = scrape(server.url)
    check(told, load)
    assert told.value("metagame_attached_sessions", kind="named") == SOCKETS - len(cut)
    until(lambda: serving(server) == WORKERS, "the worker's successor")
    for session_id in cut:
        load.open(session_id)
    assert scrape(server.url).value("metagame_attached_sessions", kind="named") == SOCKETS
    return len(cut)


def check(told: Scrape, load: Load) -> None:
    """Hold the counts against what was asked."""
    for name in ("metagame_requests_total", "metagame_request_duration_seconds_count"):
        assert told.counted(name, "surface", "operation") == load.asked
    assert told.value("metagame_errors_total") == told.value("metagame_request_errors_total") == 0
    steps = load.asked["websocket", "step"] + load.asked["http", "step"]
    resets = load.asked["websocket", "reset"] + load.asked["http", "reset"]
    outcomes = told.counted("metagame_commits_total", "command", "outcome")
    assert outcomes == {("step", "committed"): steps, ("reset", "committed"): resets}
    assert told.counted("metagame_sessions_made_total", "origin") == {("named",): SOCKETS + HTTP_SESSIONS}
    assert told.value("metagame_resident_sessions") == SOCKETS + HTTP_SESSIONS
    assert told.value("metagame_sessions_ended_total") == 0


def serving(server: Server) -> float:
    return scrape(server.url).value("metagame_workers", state="serving")


def pids(server: Server) -> list[int]:
    """The workers: the supervisor's children, but for what keeps track of their resources."""
    parent = server.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)
