"""Which calls each fault hit, and how long calls paused, from the journals and the log of faults.

A fault hits a call that was sent and unanswered at the instant the fault struck, and that because of it

- failed or was sent again: an attempt of it ended without an answer between that instant and the fault's end; or
- waited: it was answered later than `waited_s` after that instant, and at the latest at the fault's end.

`SLACK_S` is added to the end, for what takes its time to get through. A call belongs to the first instant that
it was in flight at: what an earlier fault still holds up is not the next one's. Nor is a call that had waited for
`waited_s` when the fault struck: it is stuck in a worker that sleeps since before it was sent. Retries inside the
balancer do not show in journals: where they cost no time they are not counted.

Docker's commands take their time: such a strike has a span, from its instant to `by_s`. A call that was in flight
at some time of it is hit if it failed, or if it was answered later than `waited_s` after its end: in the span it
may have waited for the program that strikes.

A fault whose instants nobody knows (`deploy/roll` keeps its own time) hits the calls of which an attempt failed
while it lasted.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from chaos.journal import Journal

SLACK_S = 1.0
LEAST_WAIT_S = 0.05
USUAL_TIMES = 4
"""A call waited if it took longer than this many times the usual one."""


@dataclass(slots=True)
class Call:
    """One call of one client, from its sending to its end; `ended_s` is infinite where the run cut it off."""

    journal: str
    number: int
    verb: str
    sent_s: float
    ended_s: float = math.inf
    answered: bool = False
    failures_s: list[float] = field(default_factory=list)
    """When its attempts failed."""

    @property
    def took_s(self) -> float:
        """From sending to the end."""
        return self.ended_s - self.sent_s


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault as it happened: its instants, and how long it lasted until all was well again."""

    kind: str
    target: str
    began_s: float
    ended_s: float
    instants_s: tuple[float, ...]
    note: str = ""
    by_s: float = 0.0
    """The fault had struck by then, and nothing but it held calls up any more; 0 where the instants are exact."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """Durations of some calls, in seconds; 0 where there is none."""

    calls: int
    p50_s: float
    p99_s: float
    worst_s: float


@dataclass(frozen=True, slots=True)
class Impact:
    """What one strike did to calls that were in flight."""

    strike: Strike
    in_flight: int
    hit: tuple[Call, ...]


def calls_of(journals: Iterable[Journal]) -> list[Call]:
    """Every call in the journals."""
    calls: list[Call] = []
    for journal in journals:
        by_number: dict[int, Call] = {}
        for entry in journal.entries:
            number = entry.fields.get("call")
            if number is None:
                continue
            if entry.what == "send":
                by_number[number] = Call(journal.name, number, entry.fields["verb"], entry.at_s)
            elif entry.what == "lost":
                by_number[number].failures_s.append(entry.at_s)
            else:
                call = by_number[number]
                call.ended_s, call.answered = entry.at_s, entry.what in {"answer", "committed"}
                if not call.answered:
                    call.failures_s.append(entry.at_s)
        calls += by_number.values()
    return calls


def waited_s(calls: Sequence[Call], strikes: Sequence[Strike]) -> float:
    """How long a call must have taken after a fault to have waited because of it."""
    usual = pauses(call for call in calls if not _during(call, strikes))
    return max(LEAST_WAIT_S, USUAL_TIMES * usual.p50_s)


def impacts(calls: Sequence[Call], strikes: Sequence[Strike]) -> list[Impact]:
    """What each strike hit, in the order of the strikes."""
    limit_s = waited_s(calls, strikes)
    spans = sorted(
        (max(at_s, strike.by_s), at_s, number) for number, strike in enumerate(strikes) for at_s in strike.instants_s
    )
    in_flight: dict[int, list[Call]] = defaultdict(list)
    hit: dict[int, list[Call]] = defaultdict(list)
    for call in calls:
        place = bisect_left(spans, (call.sent_s,))
        if place == len(spans) or spans[place][1] >= call.ended_s:
            for number, strike in enumerate(strikes):
                if not strike.instants_s and any(strike.began_s <= at <= strike.ended_s for at in call.failures_s):
                    in_flight[number].append(call)
                    hit[number].append(call)
            continue
        by_s, at_s, number = spans[place]
        if at_s - call.sent_s > limit_s:
            continue
        in_flight[number].append(call)
        over_s = strikes[number].ended_s + SLACK_S
        failed = any(at_s <= failed_s <= over_s for failed_s in call.failures_s)
        if failed or (call.answered and by_s + limit_s < call.ended_s <= over_s):
            hit[number].append(call)
    return [Impact(strike, len(in_flight[number]), tuple(hit[number])) for number, strike in enumerate(strikes)]


def missed_kinds(kinds: Iterable[str], struck: Sequence[Impact]) -> list[str]:
    """The kinds of faults that hit no call in flight."""
    hit = {impact.strike.kind for impact in struck if impact.hit}
    return [kind for kind in kinds if kind not in hit]


def pauses(calls: Iterable[Call]) -> Pauses:
    """How long answered calls took, from sending to answer."""
    took = sorted(call.took_s for call in calls if call.answered)
    if not took:
        return Pauses(0, 0.0, 0.0, 0.0)
    return Pauses(len(took), _percentile(took, 0.5), _percentile(took, 0.99), took[-1])


def pauses_under_fault(calls: Sequence[Call], strikes: Sequence[Strike]) -> Pauses:
    """The same for calls that were in flight at some time while a fault lasted."""
    return pauses(call for call in calls if _during(call, strikes))


def _during(call: Call, strikes: Iterable[Strike]) -> bool:
    return any(call.sent_s <= strike.ended_s and call.ended_s >= strike.began_s for strike in strikes)


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
