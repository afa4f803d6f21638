"""A cut strikes the line of a worker that sleeps, which the pause has to itself."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from chaos.faults import OnProcesses
from chaos.lines import Line, step_to_worker
from chaos.pool import ProcessPool, Worker
from chaos.processes import Process, fixed_port
from chaos.schedule import ASLEEP, LEASE_S, Fault

pytestmark = pytest.mark.anyio
SERVER = """
import http.server, sys, time
class Ready(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        time.sleep(600)
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


class Well:
    """A Redis that is well."""

    async def well(self) -> None: ...


@dataclass
class Workers:
    """Two workers behind lines, and nothing else of a pool."""

    workers: dict[str, Worker]
    redis: Well = field(default_factory=Well)


async def test_a_cut_reaches_a_worker_in_its_sleep(tmp_path: Path) -> None:
    pool = Workers({})
    for name in ("w1", "w2"):
        port = fixed_port()
        process = Process(name, [sys.executable, "-c", SERVER, str(port)], port, tmp_path / name, {})
        pool.workers[name] = Worker(process, Line(fixed_port(), port, step_to_worker))
    faults = OnProcesses(cast("ProcessPool", pool))
    sleep: asyncio.Task[Any] | None = None
    try:
        for worker in pool.workers.values():
            await worker.process.start()
            await worker.line.open()
        asked = await asyncio.open_connection("127.0.0.1", pool.workers["w2"].line.port)
        sleep = asyncio.create_task(faults.inflict(Fault(1, "pause", 0.0, ("w2",), LEASE_S + 1, "", 0.0)))
        # The step that the pause waits for; it is never answered.
        asked[1].write(b"POST /step HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        await until_stopped(pool.workers["w2"].process)
        blow = await faults.inflict(Fault(2, "cut", 0.0, ("w1", "w2"), 0.0, ASLEEP, 0.0))
        assert len(blow.instants_s) == 1
        assert not sleep.done()
        with contextlib.suppress(ConnectionError):
            assert await asked[0].read(1) == b""
        asked[1].close()
    finally:
        if sleep is not None:
            sleep.cancel()
        for worker in pool.workers.values():
            worker.process.kill()
            worker.line.close()


async def until_stopped(process: Process) -> None:
    """Wait until the process's state is T."""
    assert process._process is not None
    stat = Path(f"/proc/{process._process.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "T":  # noqa: ASYNC110, ASYNC240 - of /proc, which tells nobody by itself
        await asyncio.sleep(0.01)
