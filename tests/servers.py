"""Real servers for tests: processes of `python -m services.app` on ports that the kernel picks."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

ROOT = Path(__file__).resolve().parents[1]
READY_DEADLINE_S = 30.0
STOP_DEADLINE_S = 15.0
_POLL_S = 0.02
_BARE_NAMES = frozenset(
    {
        *("HOST", "PORT", "WORKERS", "MAX_CONCURRENT_ENVS", "FORWARDED_ALLOW_IPS"),
        *("OPENENV_MODE", "ENABLE_WEB_INTERFACE"),
    }
)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server; `log` reads what it wrote so far."""

    url: str
    process: subprocess.Popen[str]
    _log: Path

    @property
    def ws_url(self) -> str:
        return "ws" + self.url.removeprefix("http")

    @property
    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """Ask it to leave (SIGTERM) and wait until it has; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_DEADLINE_S)


@contextmanager
def run_server(*, until: str = "/ready", module: str = "services.app", **env: str) -> Iterator[Server]:
    """One server, its settings the variables given and no others, killed with the block.

    It is up once `until` answers 200: `/health` for a server whose Redis is away.
    """
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith("METAGAME_") and key not in _BARE_NAMES
    }
    with tempfile.TemporaryDirectory(prefix="metagame-server-") as folder:
        log = Path(folder, "log")
        with log.open("w") as written:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=ROOT,
                env=inherited | {"METAGAME_PORT": "0"} | env,
                stdout=subprocess.PIPE,
                stderr=written,
                text=True,
            )
        assert process.stdout is not None
        try:
            url = _announced(process.stdout, log)
            _wait_until_up(url + until, process, log)
            yield Server(url, process, log)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@contextmanager
def serving(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """The address that a server of this command says it serves on; it is asked to leave with the block."""
    server = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
        assert found is not None
        yield found[0]
    finally:
        server.terminate()
        server.communicate(timeout=30)


def _announced(stdout: IO[str], log: Path) -> str:
    line = stdout.readline()
    if " on http://" not in line:
        message = f"the server did not start: {line}{log.read_text()}"
        raise AssertionError(message)
    return line.partition(" on ")[2].split()[0]


def _wait_until_up(url: str, process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + READY_DEADLINE_S
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if client.get(url).status_code == 200:
                    return
            time.sleep(_POLL_S)
    message = f"the server was not up within {READY_DEADLINE_S} s: {log.read_text()}"
    raise AssertionError(message)
