"""HAProxy as a process, with the configuration that compose runs, before workers on loopback ports."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.redis_servers import free_port
from tests.servers import ROOT
from tests.survival.workers import Worker, until

CONFIGURATION = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
START_S = 20.0
_POLL_S = 0.02


class StatsPage:
    """What a balancer's own page says."""

    def __init__(self, url: str) -> None:
        self.stats_url = url

    def ready(self) -> bool:
        """Whether it has a worker that is ready."""
        return httpx.get(f"{self.stats_url}/ready", trust_env=False).status_code == 200

    def stats(self) -> dict[str, dict[str, str]]:
        """Its columns of every worker, by the name that the balancer gives it."""
        return {row["svname"]: row for row in self._rows() if row["pxname"] == "workers" and row["svname"] != "BACKEND"}

    def answered(self, status: str) -> int:
        """How many answers of this class (4xx, 5xx) clients got."""
        return next(int(row[f"hrsp_{status}"]) for row in self._rows() if row["pxname"] == "public")

    def open_connections(self) -> int:
        """How many connections clients have."""
        return next(
            int(row["scur"]) for row in self._rows() if (row["pxname"], row["svname"]) == ("public", "FRONTEND")
        )

    def up(self) -> set[str]:
        """The workers in rotation."""
        return {name for name, row in self.stats().items() if row["status"].startswith("UP")}

    async def all_up(self, workers: Sequence[Worker]) -> None:
        """Wait until every worker that runs is in rotation, and no other; they are w1, w2 and so on."""
        alive = {f"w{number}" for number, worker in enumerate(workers, 1) if worker.alive}
        await until(lambda: self.up() == alive, f"{alive} in rotation")

    def _rows(self) -> list[dict[str, str]]:
        page = httpx.get(f"{self.stats_url}/;csv", trust_env=False).text
        return list(csv.DictReader(io.StringIO(page.removeprefix("# "))))


class Balancer(StatsPage):
    """One haproxy process after another, on the same two ports and before the same workers."""

    def __init__(self, folder: Path, worker_ports: Sequence[int], **settings: str) -> None:
        self.port, self.stats_port = free_port(), free_port()
        super().__init__(f"http://127.0.0.1:{self.stats_port}")
        secure = bool(settings.get("BALANCER_TLS_PEM"))
        self.url = f"{'https' if secure else 'http'}://127.0.0.1:{self.port}"
        self._workers = folder / "workers.cfg"
        servers = (f"    server w{number} 127.0.0.1:{port}\n" for number, port in enumerate(worker_ports, 1))
        self._workers.write_text("backend workers from pool\n" + "".join(servers))
        self._log = folder / "haproxy.log"
        self._environment: Mapping[str, str] = {
            **{key: value for key, value in os.environ.items() if not key.startswith("BALANCER_")},
            "BALANCER_BIND": f"127.0.0.1:{self.port}",
            "BALANCER_STATS_BIND": f"127.0.0.1:{self.stats_port}",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def peak_mib(self) -> float:
        """The most memory that it has had (Linux)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        """Start, and return once it listens; its workers may still be away."""
        binary = shutil.which("haproxy")
        if binary is None:
            message = "the tests need haproxy (Debian: apt-get install haproxy; macOS: brew install haproxy)"
            raise RuntimeError(message)
        # No port is shared (-dR): what another listens on is an error, and not half of its connections.
        command = [binary, "-db", "-dR", "-f", str(CONFIGURATION), "-f", str(self._workers)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while True:
            with suppress(httpx.TransportError):
                self.ready()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                message = f"haproxy did not start:\n{self.log}"
                raise RuntimeError(message)
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Crash and come back on the same ports."""
        self.stop()
        self.start()


@contextmanager
def balancer(folder: Path, worker_ports: Sequence[int], **settings: str) -> Iterator[Balancer]:
    """A running balancer, ended with the block."""
    one = Balancer(folder, worker_ports, **settings)
    one.start()
    try:
        yield one
    finally:
        one.stop()
