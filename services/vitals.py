"""A worker's vital signs: what it tells the pool of itself, and reads of the others.

Each worker works out its own rates and its own last ten seconds, so that whoever reads adds them up and keeps
nothing. Latencies travel as counts between bounds that stand beside them: a release may move the bounds, and
both are read in one answer while workers are replaced. What another release tells more is ignored, and what it
does not tell is as if it were nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, ValidationError

from metagame import __version__
from metagame.core.session import Kind

from .meter import Meter
from .meter.layout import (
    ATTACHED,
    CODES,
    COMMITS,
    CPU,
    DURATIONS_NS,
    NANO,
    REASONS,
    REQUESTS,
    RESIDENT_BYTES,
    ROUND_TRIPS,
)

WINDOW_S = 10.0
"""How far back latencies go."""
RATE_S = 3.0
"""How far back rates go: over one turn of telling they would jump."""
STEPS = (("http", "step"), ("web", "step"), ("websocket", "step"), ("mcp", "tools/call"))
"""Requests that are steps, by surface and operation."""
LOOK = ("http", "pool")
"""The look at the pool itself, which is none of its requests: whoever watches would see themselves."""
BOUNDS_MS = tuple(bound * 1000 / NANO for bound in DURATIONS_NS)
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}

Bucket = tuple[float, float | None, int]
"""More than the first ms, up to the second (None: whatever is longer): so many."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a worker has counted since its start, but for what is attached and resident now.

    A histogram is its bounds in ms, each inclusive, and a count for each and for what is beyond.
    """

    steps: int
    requests: int
    attached: int
    anonymous: int
    """Of the attached, those whose session has no name."""
    cpu_s: float
    resident_bytes: int
    bounds_ms: Sequence[float] = ()
    step_counts: Sequence[int] = (0,)
    redis_counts: Sequence[int] = (0,)
    errors: Mapping[str, int] = field(default_factory=dict)


class Vitals(BaseModel):
    """One worker's word about itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str | None = None
    pid: int | None = None
    version: str | None = None
    started_at: float | None = None
    draining: bool = False
    attached: int = 0
    anonymous: int = 0
    steps: int = 0
    steps_per_s: float = 0.0
    requests: int = 0
    requests_per_s: float = 0.0
    errors: dict[str, int] = {}
    step_ms: tuple[Bucket, ...] = ()
    redis_ms: tuple[Bucket, ...] = ()
    resident_bytes: int = 0
    cpu: float = 0.0


class Pulse:
    """One worker's vital signs; `beat` every now and then."""

    def __init__(
        self,
        worker_id: str,
        count: Callable[[], Counts],
        *,
        draining: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.worker_id = worker_id
        self._count = count
        self._draining = draining
        self._clock = clock
        self._started_at = time.time()
        self._host, self._pid = socket.gethostname(), os.getpid()
        self._beats: deque[tuple[float, Counts]] = deque([(clock(), count())])

    def beat(self) -> None:
        """Take note of the counts, for those that will be compared with them."""
        now = self._clock()
        self._beats.append((now, self._count()))
        while len(self._beats) > 1 and self._beats[1][0] <= now - WINDOW_S:
            self._beats.popleft()

    def vitals(self) -> Vitals:
        """How the worker is now."""
        now, counts = self._clock(), self._count()
        began, before = self._at(now - RATE_S)
        _, long_before = self._at(now - WINDOW_S)
        passed_s = max(now - began, 1e-3)
        return Vitals(
            host=self._host,
            pid=self._pid,
            version=__version__,
            started_at=round(self._started_at, 3),
            draining=self._draining(),
            attached=counts.attached,
            anonymous=counts.anonymous,
            steps=counts.steps,
            steps_per_s=round((counts.steps - before.steps) / passed_s, 1),
            requests=counts.requests,
            requests_per_s=round((counts.requests - before.requests) / passed_s, 1),
            errors={code: count for code, count in counts.errors.items() if count},
            step_ms=_between(counts.bounds_ms, long_before.step_counts, counts.step_counts),
            redis_ms=_between(counts.bounds_ms, long_before.redis_counts, counts.redis_counts),
            resident_bytes=counts.resident_bytes,
            cpu=round((counts.cpu_s - before.cpu_s) / passed_s, 3),
        )

    def word(self) -> bytes:
        """The same as it is told to the others."""
        return self.vitals().model_dump_json(exclude_defaults=True).encode()

    def _at(self, then: float) -> tuple[float, Counts]:
        """The last beat that is old enough, or the first there is."""
        return next((beat for beat in reversed(self._beats) if beat[0] <= then), self._beats[0])


def counts_of(meter: Meter) -> Counts:
    """What one worker's meter says now."""
    meter.look_at_process()
    cells = meter.cells
    step_counts = [REQUESTS.buckets(cells, surface=surface, operation=operation) for surface, operation in STEPS]
    return Counts(
        steps=COMMITS.total(cells, command=str(Kind.STEP), outcome="committed"),
        requests=REQUESTS.total(cells) - REQUESTS.total(cells, surface=LOOK[0], operation=LOOK[1]),
        attached=ATTACHED.total(cells),
        anonymous=ATTACHED.total(cells, kind="anonymous"),
        cpu_s=CPU.total(cells) / NANO,
        resident_bytes=RESIDENT_BYTES.total(cells),
        bounds_ms=BOUNDS_MS,
        step_counts=[sum(column) for column in zip(*step_counts, strict=True)],
        redis_counts=ROUND_TRIPS.buckets(cells),
        errors={code: REASONS.total(cells, code=code) for code in CODES},
    )


def read(word: bytes) -> Vitals:
    """A word as it was told; what cannot be read at all says nothing but that somebody is there."""
    try:
        return Vitals.model_validate_json(word)
    except ValidationError:
        return Vitals()


def percentiles(buckets: Iterable[Bucket], wanted: Iterable[str] = PERCENTILES) -> dict[str, float | None]:
    """Latencies in ms, None where nothing was measured; inside a bucket they are taken to lie evenly."""
    counts: defaultdict[tuple[float, float], int] = defaultdict(int)
    for low, high, count in buckets:
        counts[low, low if high is None else high] += count
    total, spread = sum(counts.values()), sorted(counts.items())
    return {name: _percentile(spread, PERCENTILES[name] * total) for name in wanted}


def _percentile(spread: list[tuple[tuple[float, float], int]], rank: float) -> float | None:
    passed = 0
    for (low, high), count in spread:
        if count and passed + count >= rank:
            return round(low + (high - low) * (rank - passed) / count, 3)
        passed += count
    return None


def _between(bounds: Sequence[float], before: Sequence[int], after: Sequence[int]) -> tuple[Bucket, ...]:
    """What came in between, by buckets; only those that hold anything."""
    lows, highs = (0.0, *bounds), (*bounds, None)
    rows = zip(lows, highs, before, after, strict=True)
    return tuple((low, high, now - then) for low, high, then, now in rows if now > then)
