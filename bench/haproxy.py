"""The balancer of `deploy/haproxy` as a process, before workers on loopback ports."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metagame.cli import processes

CONFIGURATION = Path(__file__).resolve().parents[1] / "deploy" / "haproxy" / "haproxy.cfg"


@contextmanager
def balancer(folder: Path, worker_ports: list[int]) -> Iterator[processes.Child]:
    """HAProxy with its defaults, running inside the block."""
    servers = [f"    server w{number} 127.0.0.1:{port}\n" for number, port in enumerate(worker_ports, 1)]
    (folder / "workers.cfg").write_text("backend workers from pool\n" + "".join(servers))
    port = processes.free_port()
    listens = {
        "BALANCER_BIND": f"127.0.0.1:{port}",
        "BALANCER_STATS_BIND": f"127.0.0.1:{processes.free_port()}",
    }
    command = ["haproxy", "-db", "-f", str(CONFIGURATION), "-f", str(folder / "workers.cfg")]
    with processes.child(command, port, folder / "haproxy.log", dict(os.environ) | listens) as started:
        yield started
