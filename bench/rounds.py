"""Contestants measured in turn, round by round, each by a fleet of its own that steps and is gone.

What a round measures is a `Sample`; a round with an error in it measures nothing, and raises Unmeasured.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bench.contestants import pinned
from bench.targets import Options, Unmeasured
from metagame.load import Fleet, Play, Sockets
from metagame.load.latencies import histogram, percentiles
from metagame.load.usage import cpu_s

COLUMNS = ("worker µs", "Redis µs", "steps/s", "p50 ms", "p99 ms", "load µs")
_WARM_UP_STEPS = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """CPU time in µs a step of workers, Redis and load processes; latencies as the load processes saw them."""

    worker_us: float
    redis_us: float
    load_us: float
    steps_per_s: float
    p50_ms: float
    p99_ms: float
    histogram_ms: list[tuple[float, int]]
    """Upper bound and count of each bucket."""

    @property
    def total_us(self) -> float:
        """Workers and Redis together."""
        return self.worker_us + self.redis_us


@dataclass(slots=True)
class Contestant:
    """Servers under one kind of load, and what each round measured."""

    name: str
    sockets: Sockets
    workers: Sequence[int]
    redis: int | None = None
    pin: bool = False
    """Each worker on a core of its own while it is measured."""
    rate_per_s: float | None = None
    """An open loop of this many steps a second of all sockets together, where latencies count from planned moments."""
    samples: list[Sample] = field(default_factory=list)

    def measure(self, steps: int) -> None:
        """One round: this many steps on each socket."""
        others = [self.redis] if self.redis else []
        with pinned(self.workers, others) if self.pin else nullcontext(), Fleet(self.sockets) as fleet:
            opened = fleet.open()
            warmed = fleet.play(Play(steps=_WARM_UP_STEPS))
            before = self._cpu_s()
            played = fleet.play(Play(steps=steps, rate_per_s=self.rate_per_s))
            worker_s, redis_s = (now - was for now, was in zip(self._cpu_s(), before, strict=True))
            fleet.close()
        errors = [text for part in (opened, warmed, played) for text in part.errors.texts]
        if errors or played.steps != steps * self.sockets.count:
            message = (
                f"{self.name}: {opened.count} of {self.sockets.count} sockets opened,"
                f" {played.steps} of {steps * self.sockets.count} steps taken. {'; '.join(errors)}"
            )
            raise Unmeasured(message)
        p50_ms, p99_ms = percentiles(played.latency_ms, (50, 99))
        us = 1e6 / played.steps
        self.samples.append(
            Sample(
                worker_s * us,
                redis_s * us,
                played.own_us_per_step,
                played.steps_per_s,
                p50_ms,
                p99_ms,
                histogram(played.latency_ms),
            )
        )

    def with_sockets(self, count: int) -> Contestant:
        """The same servers under more or fewer sockets, nothing measured yet."""
        return replace(self, sockets=replace(self.sockets, count=count), samples=[])

    def paced(self, rate_per_s: float) -> Contestant:
        """The same in an open loop, nothing measured yet."""
        return replace(self, name=f"{self.name}, {rate_per_s:,.0f} steps/s", rate_per_s=rate_per_s, samples=[])

    def pinned(self) -> Contestant:
        """The same, pinned, nothing measured yet."""
        return replace(self, name=f"{self.name}, pinned", pin=True, samples=[])

    def all(self, figure: str) -> list[float]:
        """A figure of a Sample, round by round."""
        return [getattr(sample, figure) for sample in self.samples]

    def median(self, figure: str) -> float:
        """Its median."""
        return statistics.median(self.all(figure))

    def cells(self) -> tuple[str, ...]:
        """Medians, as COLUMNS name them."""
        return (
            f"{self.median('worker_us'):.0f}",
            f"{self.median('redis_us'):.0f}" if self.redis else "-",
            f"{self.median('steps_per_s'):,.0f}",
            f"{self.median('p50_ms'):.2f}",
            f"{self.median('p99_ms'):.2f}",
            f"{self.median('load_us'):.0f}",
        )

    def as_json(self) -> dict[str, Any]:
        """Every round's sample, and the load."""
        return {
            "name": self.name,
            "sockets": self.sockets.count,
            "request_ids": self.sockets.request_ids,
            "surface": self.sockets.surface,
            "pinned": self.pin,
            "rate_per_s": self.rate_per_s,
            "rounds": [
                {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(sample).items()}
                | {"total_us": round(sample.total_us, 4)}
                for sample in self.samples
            ],
        }

    def _cpu_s(self) -> tuple[float, float]:
        return sum(map(cpu_s, self.workers)), cpu_s(self.redis) if self.redis else 0.0


def take_turns(contestants: Sequence[Contestant], options: Options, steps: Callable[[Contestant], int]) -> None:
    """Measure every contestant once a round."""
    for number in range(options.rounds):
        for contestant in contestants:
            contestant.measure(steps(contestant))
        options.say(f"round {number + 1} of {options.rounds}")
