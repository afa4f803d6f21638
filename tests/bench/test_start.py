"""I: what counts as the start of a server."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.targets.start import Start, cpu_until_ready
from metagame.cli import processes

SERVER = """
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

port, status, busy_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
answered = 0

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        global answered
        answered += 1
        if answered == 3:
            while time.process_time() < busy_s:
                pass
        self.send_response(200 if answered > 3 else status)
        self.end_headers()

    def log_message(self, *_):
        pass

HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@contextmanager
def server(folder: Path, status: int, busy_s: float) -> Iterator[processes.Child]:
    """Answers three times with a status, the last time after this much CPU time, and then with 200."""
    port = processes.free_port()
    command = [sys.executable, "-c", SERVER, str(port), str(status), str(busy_s)]
    with processes.child(command, port, folder / "log", dict(os.environ)) as child:
        yield child


def test_cpu_time_counts_until_the_first_200(tmp_path: Path) -> None:
    assert cpu_until_ready(Start("busy", lambda: server(tmp_path, 503, 0.5), "/ready"), within_s=20) >= 0.5
    assert cpu_until_ready(Start("ready at once", lambda: server(tmp_path, 200, 0.5), "/ready"), within_s=20) < 0.5


def test_a_server_that_is_never_ready_is_waited_for_no_longer(tmp_path: Path) -> None:
    busy = Start("busy", lambda: server(tmp_path, 503, 60), "/ready")
    with pytest.raises(TimeoutError, match=r"busy was not ready within 0\.2 s"):
        cpu_until_ready(busy, within_s=0.2)
