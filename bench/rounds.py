"""Contestants measured in turn, round by round, each by a fleet of its own that steps and is gone.

What a round measures is a `Sample`; a round with an error in it measures nothing, and raises Unmeasured.
"""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bench.contestants import pinned
from bench.targets import Options, Unmeasured
from metagame.load import Fleet, Play, Sockets
from metagame.load.latencies import histogram, percentiles
from metagame.load.results import Played
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

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Sockets of its own, open and warm, for one round; what was played on them is kept as its sample."""
        with Fleet(self.sockets) as fleet:
            opened, warmed = fleet.open(), fleet.play(Play(steps=_WARM_UP_STEPS))
            turn = Turn(self, fleet)
            yield turn
            fleet.close()
        steps = sum(part.steps for part in turn.played)
        errors = [
            text for found in (opened.errors, *[part.errors for part in (warmed, *turn.played)]) for text in found.texts
        ]
        if errors or steps != turn.due:
            message = (
                f"{self.name}: {opened.count} of {self.sockets.count} sockets opened,"
                f" {steps} of {turn.due} steps taken. {'; '.join(errors)}"
            )
            raise Unmeasured(message)
        self.samples.append(turn.sample())

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


class Turn:
    """One contestant's round: what was played so far, and the CPU time meanwhile."""

    def __init__(self, contestant: Contestant, fleet: Fleet) -> None:
        self._contestant = contestant
        self._fleet = fleet
        self.due = 0
        self.played: list[Played] = []
        self._worker_s = 0.0
        self._redis_s = 0.0

    def play(self, steps: int) -> None:
        """So many more steps on each socket."""
        one = self._contestant
        others = [one.redis] if one.redis else []
        with pinned(one.workers, others) if one.pin else nullcontext():
            worker_s, redis_s = self._cpu_s()
            self.played.append(self._fleet.play(Play(steps=steps, rate_per_s=one.rate_per_s)))
            worker_after_s, redis_after_s = self._cpu_s()
        self._worker_s += worker_after_s - worker_s
        self._redis_s += redis_after_s - redis_s
        self.due += steps * one.sockets.count

    def sample(self) -> Sample:
        """All of it as one."""
        latency_ms = array("d")
        for part in self.played:
            latency_ms.extend(part.latency_ms)
        p50_ms, p99_ms = percentiles(latency_ms, (50, 99))
        us = 1e6 / self.due
        return Sample(
            self._worker_s * us,
            self._redis_s * us,
            sum(sum(part.own_cpu_s) for part in self.played) * us,
            self.due / sum(part.seconds for part in self.played),
            p50_ms,
            p99_ms,
            histogram(latency_ms),
        )

    def _cpu_s(self) -> tuple[float, float]:
        one = self._contestant
        return sum(map(cpu_s, one.workers)), cpu_s(one.redis) if one.redis else 0.0


def take_turns(
    contestants: Sequence[Contestant], options: Options, steps: Callable[[Contestant], int], *, slices: int = 1
) -> None:
    """Measure every contestant once a round, one after the other.

    In several slices all have their sockets open for the whole round and play a part of their steps at a time: a
    shared machine is slow for seconds, and that then falls on each of them.
    """
    for number in range(options.rounds):
        if slices == 1:
            for one in contestants:
                with one.turn() as turn:
                    turn.play(steps(one))
        else:
            with ExitStack() as open_turns:
                turns = [(open_turns.enter_context(one.turn()), steps(one) // slices) for one in contestants]
                for _ in range(slices):
                    for turn, part in turns:
                        turn.play(part)
        options.say(f"round {number + 1} of {options.rounds}")
