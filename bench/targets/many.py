"""E and E2: tens of thousands of sockets open at once on this machine, each stepping at random moments.

Two workers on one Redis, or two reference servers; clients go past any balancer, to one port each. Every phase has
servers of its own, since what an earlier one freed would hold the next one's sockets.

Burst: sockets are opened as fast as they are accepted, a fixed number under way at a time, and each makes a step;
then the servers are weighed. Paced: sockets are opened at a fixed rate; once all are open each steps at random moments,
and that alone is measured.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median as middle
from typing import TypeVar

from redis import Redis

from bench import seeding
from bench.contestants import everysec_redis, reference
from bench.targets import Check, Options, Result, Series, Table, Target, Unmeasured, median, ratio
from metagame.cli import processes
from metagame.load import Errors, Fleet, Opened, Play, Played, Sockets
from metagame.load.latencies import percentile
from metagame.load.usage import resident_bytes

SERVERS = 2
LOAD_ADDRESSES = ("127.0.0.2", "127.0.0.3")
"""A load process each: an address has some 28,000 ports towards one server's."""
TIMEOUT_S = 120.0
ROUNDS = 3
OPEN_LIMIT, MEMORY_LIMIT, P99_RATIO_LIMIT, P99_LIMIT_MS = 0.4, 0.4, 0.3, 100.0
SPARE_FILES = 200
"""What a process has open beside the sockets."""

FoundT = TypeVar("FoundT", Opened, Played)


class TooFewFiles(Unmeasured):
    """The limit of open files is too low; the text says what it must be."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of it; a test does with less."""

    sockets: int
    steps: int = 5
    think_s: float = 10.0
    at_once: int = 128
    """Sockets that are being opened at a time, in a burst."""
    opened_per_s: float = 150.0
    """Otherwise: what both contestants accept."""


E, E2 = Scale(16_384), Scale(32_768, opened_per_s=400.0)


@dataclass(frozen=True, slots=True)
class Servers:
    """Running servers, and the Redis they share if they have one."""

    ports: tuple[int, ...]
    pids: tuple[int, ...]
    redis: Redis | None = None

    def resident_bytes(self) -> int:
        """Memory of the servers together, the Redis not among them."""
        return sum(map(resident_bytes, self.pids))

    def redis_bytes(self) -> int:
        """What the Redis has allocated."""
        return 0 if self.redis is None else seeding.used_bytes(self.redis)


@dataclass(slots=True)
class Contestant:
    """Some servers, and what each round measured."""

    name: str
    start: Callable[[], AbstractContextManager[Servers]]
    ours: bool
    open_s: list[float] = field(default_factory=list)
    socket_kb: list[float] = field(default_factory=list)
    redis_kb: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    load_busy: list[float] = field(default_factory=list)
    """The share of a core that the busiest load process used: near 1 it measures itself."""
    errors: Errors = field(default_factory=Errors)

    def burst(self, scale: Scale) -> None:
        """Open as fast as accepted, step once, weigh."""
        with self.start() as servers, self._fleet(servers, scale, at_once=scale.at_once) as fleet:
            count = scale.sockets
            before, redis_before = servers.resident_bytes(), servers.redis_bytes()
            opened = self._noted(fleet.open(), count)
            self._noted(fleet.play(Play(steps=1, rate_per_s=count / scale.think_s)), count)
            self.open_s.append(opened.seconds)
            self.socket_kb.append((servers.resident_bytes() - before) / count / 1e3)
            self.redis_kb.append((servers.redis_bytes() - redis_before) / count / 1e3)

    def paced(self, scale: Scale) -> None:
        """Open at a fixed rate, then step at random moments."""
        with self.start() as servers, self._fleet(servers, scale, per_s=scale.opened_per_s) as fleet:
            self._noted(fleet.open(), scale.sockets)
            play = Play(steps=scale.steps, think_s=scale.think_s)
            played = self._noted(fleet.play(play), scale.steps * scale.sockets)
            self.p50_ms.append(percentile(played.latency_ms, 50))
            self.p99_ms.append(percentile(played.latency_ms, 99))
            self.load_busy.append(played.own_busy)

    def _fleet(self, servers: Servers, scale: Scale, *, at_once: int = 1, per_s: float | None = None) -> Fleet:
        """Sessions with names and requests with ids; the reference knows neither."""
        sockets = Sockets(
            addresses=tuple(("127.0.0.1", port) for port in servers.ports),
            count=scale.sockets,
            named=self.ours,
            request_ids=self.ours,
            at_once=at_once,
            per_s=per_s,
            sources=LOAD_ADDRESSES,
            timeout_s=TIMEOUT_S,
        )
        return Fleet(sockets, processes=len(LOAD_ADDRESSES))

    def _noted(self, found: FoundT, expected: int) -> FoundT:
        """What was found, its errors counted; what is missing without one is an error too."""
        done = found.count if isinstance(found, Opened) else found.steps
        self.errors.merge(found.errors)
        for _ in range(expected - done - found.errors.count):
            self.errors.add("a socket or step is missing without an error")
        return found


def measure(options: Options, scale: Scale = E) -> Result:
    """E: both contestants in turn, round by round."""
    ours, theirs = _contestants(options, scale.sockets)
    rounds = min(ROUNDS, options.rounds)
    for number in range(rounds):
        for contestant in (ours, theirs):
            contestant.burst(scale)
            contestant.paced(scale)
            options.say(f"round {number + 1} of {rounds}, {contestant.name}")
    return Result(
        checks=(
            ratio("time to open, to the reference's", ours.open_s, theirs.open_s, limit=OPEN_LIMIT),
            ratio("workers' memory a socket, to the reference's", ours.socket_kb, theirs.socket_kb, limit=MEMORY_LIMIT),
            median("p99 of a step", ours.p99_ms, limit=P99_LIMIT_MS, unit="ms"),
            ratio("p99 of a step, to the reference's", ours.p99_ms, theirs.p99_ms, limit=P99_RATIO_LIMIT),
            Check("errors", ours.errors.count, 0),
        ),
        table=_table(ours, theirs),
        notes=_notes(scale, ours, theirs),
        series=tuple(
            Series(
                "latency-against-sockets", f"{one.name}, p99", "sockets", "ms", ((scale.sockets, middle(one.p99_ms)),)
            )
            for one in (ours, theirs)
        ),
        figures={one.name: _figures(one) for one in (ours, theirs)},
    )


def measure_more(options: Options, scale: Scale = E2) -> Result:
    """E2: ours alone, once."""
    ours, _ = _contestants(options, scale.sockets)
    ours.burst(scale)
    ours.paced(scale)
    return Result(
        checks=(Check("errors", ours.errors.count, 0),),
        table=_table(ours),
        notes=_notes(scale, ours),
        series=(
            Series(
                "latency-against-sockets", f"{ours.name}, p99", "sockets", "ms", ((scale.sockets, middle(ours.p99_ms)),)
            ),
        ),
        figures={ours.name: _figures(ours)},
    )


def _contestants(options: Options, count: int) -> tuple[Contestant, Contestant]:
    check_files(count)
    numbers = iter(range(1000))

    def folder() -> Path:
        made = options.folder / f"{count}-{next(numbers)}"
        made.mkdir()
        return made

    return (
        Contestant("Metagame, 2 workers, Redis", lambda: _workers(folder(), count), ours=True),
        Contestant("OpenEnv 0.10 reference, 2 servers", lambda: _references(options, folder()), ours=False),
    )


def check_files(count: int) -> None:
    """Let this process and its children open as many files as they may, and raise TooFewFiles where that is too few."""
    needed = count // SERVERS + SPARE_FILES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        message = (
            f"{count:,} sockets need {needed:,} open files a process, and {hard:,} are allowed: ulimit -n {needed}"
        )
        raise TooFewFiles(message)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(needed, resource.getrlimit(resource.RLIMIT_NOFILE)[0]), hard))


@contextmanager
def _workers(folder: Path, count: int) -> Iterator[Servers]:
    with ExitStack() as started:
        server = started.enter_context(everysec_redis(folder))
        workers = [
            started.enter_context(
                processes.worker(f"worker-{number}", folder, server.url, METAGAME_MAX_SESSIONS=str(2 * count))
            )
            for number in range(SERVERS)
        ]
        redis = started.enter_context(Redis.from_url(server.url))
        yield from _running(workers, redis)


@contextmanager
def _references(options: Options, folder: Path) -> Iterator[Servers]:
    with ExitStack() as started:
        yield from _running([started.enter_context(reference(options, folder)) for _ in range(SERVERS)])


def _running(servers: list[processes.Child], redis: Redis | None = None) -> Iterator[Servers]:
    """Servers, killed at the end: what they would do for thousands of closed sockets is nobody's business."""
    try:
        yield Servers(tuple(server.port for server in servers), tuple(server.process.pid for server in servers), redis)
    finally:
        for server in servers:
            server.kill()


def _table(*contestants: Contestant) -> Table:
    columns = ("open s", "KB a socket", "of Redis KB", "p50 ms", "p99 ms", "errors")
    rows = []
    for one in contestants:
        figures = (one.open_s, one.socket_kb, one.redis_kb, one.p50_ms, one.p99_ms)
        rows.append((one.name, (*[f"{middle(values):.1f}" for values in figures], str(one.errors.count))))
    return Table(columns, tuple(rows))


def _notes(scale: Scale, *contestants: Contestant) -> tuple[str, ...]:
    busiest = max(max(one.load_busy) for one in contestants)
    texts = [f"{one.name}: {text}" for one in contestants for text in one.errors.texts]
    return (
        f"{SERVERS} servers, {len(LOAD_ADDRESSES)} load processes, the busiest at {busiest:.0%} of a core.",
        f"Opened {scale.at_once} at a time for time and memory, {scale.opened_per_s:g} a second for the latencies.",
        *texts,
    )


def _figures(one: Contestant) -> dict[str, object]:
    return {
        "open_s": one.open_s,
        "socket_kb": one.socket_kb,
        "redis_kb": one.redis_kb,
        "p50_ms": one.p50_ms,
        "p99_ms": one.p99_ms,
        "load_busy": one.load_busy,
        "errors": one.errors.count,
    }


TARGETS = (
    Target("E", f"{E.sockets:,} sockets open at once", measure, seconds=2000),
    Target("E2", f"{E2.sockets:,} sockets open at once", measure_more, seconds=600),
)
