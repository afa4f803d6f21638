"""Which fault strikes when, whom and for how long: all of it follows from the seed.

Faults come in rounds, each kind once a round in a new order, one after the other with a gap between. Only a
long pause runs beside the others, which then leave that worker alone: it is how a worker sleeps through its
leases while the pool goes on. A cut may cut it off from the balancer in its sleep; it must not carry out what
it finds when it wakes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = ("kill", "pause", "roll", "redis-restart", "failover", "cut", "delay", "balancer-restart")
CUTS = ("redis/request", "redis/answer", "worker/request", "worker/answer")
"""What a cut loses, and where: a request before it arrives, or its answer."""
ASLEEP = "asleep"
"""A cut of the line to a worker that sleeps: the balancer gives up requests which that worker has not read yet."""
PLACES = ("redis", "worker")
"""What a delay slows down: the line to the primary, or to one worker."""
LEASE_S = 25.0
WARM_UP_S = 2.0
SETTLE_S = 3.0
"""Time without faults at the end."""
_GAP_S = 1.5
LONGEST_LONG_PAUSE_S = LEASE_S + 4.0
_LONG_PAUSE_S = (LEASE_S + 1.0, LONGEST_LONG_PAUSE_S)
_SHORT_PAUSE_S = (1.0, 4.0)
_SLEEPER_CUT_SHARE = 0.75
_PER_WORKER_S = 3.5
_TAKES_S = {
    "kill": 4.0,
    "pause": 4.5,
    "redis-restart": 5.0,
    "failover": 18.0,
    "cut": 4.0,
    "delay": 4.0,
    "balancer-restart": 2.5,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One planned fault. `targets` are workers, or `redis`, or `balancer`; `how` is its variant.

    The second target of a cut is the worker that sleeps.
    """

    number: int
    kind: str
    at_s: float
    targets: tuple[str, ...]
    for_s: float
    how: str
    after_ms: float
    """How long after a step went by it strikes: 0 hits that step for certain."""

    @property
    def long(self) -> bool:
        """Whether it runs beside the faults that follow."""
        return self.kind == "pause" and self.for_s > LEASE_S

    def __str__(self) -> str:
        lasting = f" for {self.for_s:.1f} s" if self.for_s else ""
        return f"{self.at_s:6.1f} s  {self.kind:<16} {','.join(self.targets)}{lasting} {self.how}".rstrip()


def needs_s(kinds: Sequence[str], workers: int) -> float:
    """The shortest run that holds each kind once."""
    return WARM_UP_S + SETTLE_S + sum(_takes_s(kind, workers) + _GAP_S for kind in kinds)


def plan(seed: int, duration_s: float, kinds: Sequence[str], workers: Sequence[str]) -> list[Fault]:
    """The faults of a run, in order; raises ValueError where the time is too short to have each kind once."""
    least_s = needs_s(kinds, len(workers))
    if duration_s < least_s:
        message = f"these faults need --duration {math.ceil(least_s)} or more"
        raise ValueError(message)
    return _Planner(seed, duration_s - SETTLE_S, kinds, workers).run()


def _takes_s(kind: str, workers: int) -> float:
    return _PER_WORKER_S * workers if kind == "roll" else _TAKES_S[kind]


class _Planner:
    def __init__(self, seed: int, until_s: float, kinds: Sequence[str], workers: Sequence[str]) -> None:
        self._draw = random.Random(seed)  # noqa: S311 - a schedule, not a secret
        self._until_s = until_s
        self._kinds = [kind for kind in KINDS if kind in kinds]
        self._workers = list(workers)
        self._now_s = WARM_UP_S
        self._asleep: tuple[str, float] | None = None
        self._faults: list[Fault] = []
        self._seen: set[str] = set()

    def run(self) -> list[Fault]:
        while self._kinds:
            order = self._draw.sample(self._kinds, len(self._kinds))
            before = len(self._faults)
            for kind in order:
                if self._now_s + _takes_s(kind, len(self._workers)) <= self._until_s:
                    self._add(kind)
            if len(self._faults) == before:
                break
        return self._faults

    def _add(self, kind: str) -> None:
        first = kind not in self._seen
        self._seen.add(kind)
        for_s, how = self._variant(kind)
        targets = self._targets(kind, how)
        after_ms = 0.0 if first else round(self._draw.uniform(0, 3), 1)
        fault = Fault(len(self._faults) + 1, kind, round(self._now_s, 1), targets, round(for_s, 1), how, after_ms)
        self._faults.append(fault)
        alone = len(self._workers) == 1
        if fault.long and not alone:
            self._asleep = (targets[0], self._now_s + for_s)
            self._now_s += _GAP_S
        else:
            self._now_s += (for_s if fault.long else _takes_s(kind, len(self._workers))) + _GAP_S

    def _variant(self, kind: str) -> tuple[float, str]:
        """How long, and in which way."""
        draw = self._draw
        for_s, how = 0.0, ""
        match kind:
            case "kill":
                for_s = draw.uniform(0, 2)
            case "pause":
                long = self._awake() and self._now_s + _LONG_PAUSE_S[1] + self._reserved_s() <= self._until_s
                for_s = draw.uniform(*(_LONG_PAUSE_S if long else _SHORT_PAUSE_S))
            case "failover":
                how = draw.choice(("kill", "hang"))
            case "cut":
                asleep = not self._awake() and draw.random() < _SLEEPER_CUT_SHARE
                how = " ".join([ASLEEP] * asleep + draw.sample(CUTS, len(CUTS)))
            case "delay":
                for_s, how = draw.uniform(1, 3), f"{draw.choice(PLACES)} by {draw.randrange(300, 700, 20)} ms"
            case "balancer-restart":
                how = draw.choice(("SIGTERM", "SIGKILL"))
        return for_s, how

    def _targets(self, kind: str, how: str) -> tuple[str, ...]:
        sleeper = self._sleeper()
        awake = [worker for worker in self._workers if self._awake() or worker != sleeper] or self._workers
        match kind:
            case "redis-restart" | "failover":
                return ("redis",)
            case "balancer-restart":
                return ("balancer",)
            case "roll":
                return tuple(awake)
            case "cut" if ASLEEP in how and sleeper is not None:
                return self._draw.choice(awake), sleeper
        return (self._draw.choice(awake),)

    def _reserved_s(self) -> float:
        """What a pause of the only worker must leave to the kinds that have not been yet."""
        if len(self._workers) > 1:
            return 0.0
        return _GAP_S + sum(_takes_s(kind, 1) + _GAP_S for kind in self._kinds if kind not in self._seen)

    def _awake(self) -> bool:
        """Whether no long pause lasts; a second of slack for what runs late."""
        return self._asleep is None or self._now_s > self._asleep[1] + 1

    def _sleeper(self) -> str | None:
        return None if self._asleep is None else self._asleep[0]
