"""Child processes of the demo and the benchmark: started on free loopback ports, and gone when their block ends.

A child is in a session of its own, so that Ctrl-C reaches only the parent, which then stops its
children in order. On Linux the kernel ends them should the parent itself be killed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 12.0
_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1


class StartFailed(Exception):
    """A child ended before it listened; the text is the end of what it wrote."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running child process that listens on a loopback port."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """End it as a crash would: SIGKILL, and no chance to say goodbye."""
        self.process.kill()
        self.process.wait()


@contextmanager
def worker(name: str, folder: Path, redis_url: str | None = None, **settings: str) -> Iterator[Child]:
    """One server process; on the memory store unless a Redis is given. `settings` are METAGAME_ variables."""
    ours = {key: value for key, value in os.environ.items() if not _is_setting(key)}
    settings = {"METAGAME_LOG_FORMAT": "json"} | ({"METAGAME_REDIS_URL": redis_url} if redis_url else {}) | settings
    port = free_port()
    command = [sys.executable, "-m", "metagame", "serve", "--host", "127.0.0.1", "--port", str(port)]
    with child(command, port, folder / f"{name}.log", ours | settings) as started:
        yield started


@dataclass(frozen=True, slots=True)
class Redis:
    """A running redis-server and its URL."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def redis(folder: Path, appendfsync: str | None = None) -> Iterator[Redis]:
    """A redis-server; keeps nothing on disk unless `appendfsync` says how, and then in `folder`."""
    port = free_port()
    kept = ["--appendonly", "yes", "--appendfsync", appendfsync] if appendfsync else ["--appendonly", "no"]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *kept]
    with child(command, port, folder / "redis.log", dict(os.environ)) as started:
        yield Redis(f"redis://127.0.0.1:{port}/0", started.process)


def has_redis() -> bool:
    """Whether this machine has a redis-server to start."""
    return shutil.which("redis-server") is not None


@contextmanager
def child(command: list[str], port: int, log: Path, environment: dict[str, str]) -> Iterator[Child]:
    """A process that will listen on `port`; its output goes to `log`. Raises StartFailed."""
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - commands of our own, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads here
        )
    try:
        _wait_until_listening(process, port, log)
        yield Child(port, process)
    finally:
        _stop(process)


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(_POLL_S)
        else:
            return
    raise StartFailed(log.read_text(errors="replace")[-2000:].strip() or f"no answer on port {port}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_DEADLINE_S)
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_setting(key: str) -> bool:
    bare = {"HOST", "PORT", "WORKERS", "MAX_CONCURRENT_ENVS", "OPENENV_MODE", "ENABLE_WEB_INTERFACE"}
    return key.upper().startswith("METAGAME_") or key.upper() in bare


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
