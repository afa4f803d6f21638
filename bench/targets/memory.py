"""G: what a worker holds in memory, idle and for each attached socket; the reference server the same way.

Resident memory as the kernel counts it for the process: buffers of the kernel's own sockets are not in it. Each
socket has made a reset and a step, so that all that it needs is there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from statistics import median as middle

from bench.contestants import everysec_redis, reference
from bench.targets import Options, Result, Table, Target, median
from metagame.cli import processes
from metagame.load import Fleet, Play, Sockets
from metagame.load.usage import resident_bytes

SOCKETS = 4000
IDLE_LIMIT_MB, SOCKET_LIMIT_KB = 70.0, 30.0
WARM_UP_SOCKETS = 64
"""What the first sockets load and fill is the worker's, not theirs."""


@dataclass(slots=True)
class Contestant:
    """A server, and what each round measured."""

    name: str
    start: Callable[[], AbstractContextManager[processes.Child]]
    ours: bool
    fresh_mb: list[float] = field(default_factory=list)
    idle_mb: list[float] = field(default_factory=list)
    socket_kb: list[float] = field(default_factory=list)

    def sockets(self, server: processes.Child, count: int) -> Sockets:
        """Sessions with names and requests with ids; the reference knows neither."""
        address = ("127.0.0.1", server.port)
        return Sockets(addresses=(address,), count=count, named=self.ours, request_ids=self.ours)


def measure(options: Options) -> Result:
    """Start each server once a round, weigh it, open sockets, weigh it again."""
    with everysec_redis(options.folder) as redis:
        places = (options.rounds + 1) * SOCKETS  # sessions outlive their sockets, and each round's
        ours = Contestant(
            "Metagame on Redis",
            lambda: processes.worker("redis", options.folder, redis.url, METAGAME_MAX_SESSIONS=str(places)),
            ours=True,
        )
        theirs = Contestant("OpenEnv 0.10 reference", lambda: reference(options), ours=False)
        for number in range(options.rounds):
            for contestant in (ours, theirs):
                with contestant.start() as server:  # anew: what an earlier round freed would hold the sockets
                    weigh(contestant, server, SOCKETS)
            options.say(f"round {number + 1} of {options.rounds}")
    return Result(
        checks=(
            median("worker's memory when idle", ours.idle_mb, limit=IDLE_LIMIT_MB, unit="MB"),
            median("worker's memory for each attached socket", ours.socket_kb, limit=SOCKET_LIMIT_KB, unit="KB"),
        ),
        table=Table(
            ("fresh MB", "idle MB", "KB a socket"),
            tuple(
                (one.name, tuple(f"{middle(values):.1f}" for values in (one.fresh_mb, one.idle_mb, one.socket_kb)))
                for one in (ours, theirs)
            ),
        ),
        notes=(
            f"{SOCKETS:,} sockets; MB and KB of 1,000,000 and 1,000 bytes.",
            f"Fresh: just started; idle: after its first {WARM_UP_SOCKETS} sockets have come, stepped and gone.",
        ),
        figures={
            one.name: {"fresh_mb": one.fresh_mb, "idle_mb": one.idle_mb, "socket_kb": one.socket_kb}
            for one in (ours, theirs)
        },
    )


def weigh(contestant: Contestant, server: processes.Child, count: int) -> None:
    """Fresh, idle again after some work, and with sockets."""
    pid = server.process.pid
    contestant.fresh_mb.append(resident_bytes(pid) / 1e6)
    few = contestant.sockets(server, WARM_UP_SOCKETS)
    with Fleet(few) as warm:
        _open_and_step(warm)
        warm.close()
    contestant.idle_mb.append(resident_bytes(pid) / 1e6)
    with Fleet(replace(few, count=count)) as fleet:
        before = resident_bytes(pid)
        _open_and_step(fleet)
        contestant.socket_kb.append((resident_bytes(pid) - before) / count / 1e3)


def _open_and_step(fleet: Fleet) -> None:
    opened = fleet.open()
    played = fleet.play(Play(steps=1))
    errors = opened.errors.texts + played.errors.texts
    if errors:
        message = f"not every socket opened and stepped: {errors[0]}"
        raise RuntimeError(message)


TARGETS = (Target("G", "Memory of a worker and of a socket", measure, seconds=90),)
