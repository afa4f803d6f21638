"""The servers that are measured: Metagame as users start it, the Redis of `deploy/redis`, and OpenEnv's reference.

Each runs inside a `with` block, on a free loopback port. Metagame's is `metagame.cli.processes.worker`:
`metagame serve` with its default settings, in the environment of this process without any of its settings.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.targets import Options
from metagame.cli import processes

ROOT = Path(__file__).resolve().parents[1]
REDIS_CONFIGURATION = ROOT / "deploy" / "redis" / "redis.conf"


@contextmanager
def reference(options: Options, folder: Path | None = None) -> Iterator[processes.Child]:
    """OpenEnv 0.10's own server with its own echo, on uvloop and httptools."""
    port = processes.free_port()
    command = [str(options.reference_python), "-m", "uvicorn", "reference:app", "--app-dir", str(ROOT / "bench")]
    command += ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--log-level", "warning"]
    log = (folder or options.folder) / f"reference-{port}.log"
    with processes.child(command, port, log, dict(os.environ)) as started:
        yield started


@contextmanager
def floor(folder: Path, *, duties: bool = False) -> Iterator[processes.Child]:
    """A server of floor.py."""
    port = processes.free_port()
    command = [sys.executable, "-m", "bench.floor", str(port), *["duties"] * duties]
    with processes.child(command, port, folder / f"floor-{port}.log", dict(os.environ)) as started:
        yield started


@contextmanager
def redis(folder: Path, *, appendfsync: str) -> Iterator[processes.Redis]:
    """A redis-server with the configuration that compose gives it, but for port, folder and `appendfsync`."""
    port = processes.free_port()
    data = folder / f"redis-{port}"
    data.mkdir()
    # redis-server goes to the file's folder before it reads its command line.
    shipped = REDIS_CONFIGURATION.read_text()
    configuration = folder / f"redis-{port}.conf"
    configuration.write_text(re.sub(r"^dir .*$", f'dir "{data}"', shipped, flags=re.MULTILINE))
    command = ["redis-server", str(configuration), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--appendfsync", appendfsync]
    with processes.child(command, port, folder / f"redis-{port}.log", dict(os.environ)) as started:
        yield processes.Redis(f"redis://127.0.0.1:{port}/0", started.process)


@contextmanager
def everysec_redis(folder: Path) -> Iterator[processes.Redis]:
    """The same with the AOF flushed to disk every second."""
    with redis(folder, appendfsync="everysec") as started:
        yield started


@contextmanager
def pinned(workers: Sequence[int], others: Sequence[int]) -> Iterator[None]:
    """Each worker on a core of its own; the others, this process and its children, on the cores left, or on all.

    Where the system cannot pin, or has too few cores, the scheduler decides.
    """
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < len(workers):
        yield
        return
    before = os.sched_getaffinity(0)
    cores = sorted(before)
    left = set(cores[len(workers) :]) or before
    try:
        for pid, core in zip(workers, cores, strict=False):
            _pin(pid, {core})
        for pid in (*others, os.getpid()):
            _pin(pid, left)
        yield
    finally:
        for pid in (*workers, *others, os.getpid()):
            _pin(pid, before)


def _pin(pid: int, cores: set[int]) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)
