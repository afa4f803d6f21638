"""I: CPU time from the start of a server until it takes requests.

Counted until the first 200 of `/ready`, for which Metagame has already asked its store, and of `/health`, all that the
reference has. What was compiled before stays compiled: one start of each goes uncounted.
"""

from __future__ import annotations

import http.client
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from bench.contestants import everysec_redis, reference
from bench.targets import Options, Result, Table, Target, ratio
from metagame.cli import processes
from metagame.load.usage import cpu_s

LIMIT = 0.5
READY_S = 30.0
_POLL_S = 0.005


@dataclass(slots=True)
class Start:
    """One way to start a server, and what each round measured, in seconds of CPU time."""

    name: str
    begin: Callable[[], AbstractContextManager[processes.Child]]
    path: str
    cpu_s: list[float] = field(default_factory=list)


def measure(options: Options) -> Result:
    """Start each server once a round."""
    folder = options.folder
    with everysec_redis(folder) as redis:
        starts = [
            Start("OpenEnv 0.10 reference", lambda: reference(options), "/health"),
            Start("Metagame in memory", lambda: processes.worker("memory", folder), "/ready"),
            Start("Metagame on Redis", lambda: processes.worker("redis", folder, redis.url), "/ready"),
        ]
        for start in starts:
            cpu_until_ready(start)
        for number in range(options.rounds):
            for start in starts:
                start.cpu_s.append(cpu_until_ready(start))
            options.say(f"round {number + 1} of {options.rounds}")
    theirs, in_memory, on_redis = starts
    return Result(
        checks=tuple(
            ratio(f"CPU time to ready, {ours.name}, to the reference's", ours.cpu_s, theirs.cpu_s, limit=LIMIT)
            for ours in (in_memory, on_redis)
        ),
        table=Table(("CPU s",), tuple((start.name, (f"{statistics.median(start.cpu_s):.2f}",)) for start in starts)),
        notes=(f"Python {sys.version.split()[0]}, compiled before.",),
        figures={start.name: start.cpu_s for start in starts},
    )


def cpu_until_ready(start: Start, within_s: float = READY_S) -> float:
    """Start, wait for the first 200, stop; raises TimeoutError."""
    with start.begin() as child:
        until = time.monotonic() + within_s
        while True:
            try:
                if _status(child.port, start.path, within_s) == http.HTTPStatus.OK:
                    return cpu_s(child.process.pid)
            except TimeoutError:
                pass
            if time.monotonic() > until:
                message = f"{start.name} was not ready within {within_s:g} s"
                raise TimeoutError(message)
            time.sleep(_POLL_S)


def _status(port: int, path: str, timeout_s: float) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


TARGETS = (Target("I", "Start to ready, in CPU time", measure, seconds=40),)
