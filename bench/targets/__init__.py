"""What a target is: something to measure, beside what it is compared to, and limits to stay within.

A module here holds one group of targets and a tuple `TARGETS`; `bench.catalogue` lists the modules.
`measure` starts what it needs, measures its contestants in turn, round by round, and stops it all
again. It prints nothing but progress by `options.say`; the report prints what it returns.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUICK_WIDENING = 2.0
"""Limits of a quick run are this much wider: a few short rounds scatter."""


class Unmeasured(Exception):
    """Something went wrong that leaves nothing to judge; the text says what."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure. `folder` is empty, for logs and data, and gone after the run."""

    rounds: int
    quick: bool
    reference_python: Path
    folder: Path
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Check:
    """A measured value that must not be above its limit; a ratio where `unit` is empty.

    `rounds` are the values that the median is of, if it is one.
    """

    name: str
    value: float
    limit: float
    unit: str = ""
    stretch: float | None = None
    rounds: tuple[float, ...] = ()

    def reached(self, *, quick: bool) -> bool:
        """Whether the value is within the limit, in a quick run within the wider one."""
        return self.value <= self.limit_in(quick=quick)

    def limit_in(self, *, quick: bool) -> float:
        """The limit that counts in a quick or a full run."""
        return self.limit * (QUICK_WIDENING if quick else 1)


@dataclass(frozen=True, slots=True)
class Table:
    """Figures to print: a row is a name and a cell for each column."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Series:
    """Points for a plot; series of one `plot` share a picture, `x_label` and `y_label` are its axes."""

    plot: str
    name: str
    x_label: str
    y_label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured. `checks` decide; `table` and `notes` are printed; `figures` go to the JSON as they are."""

    checks: tuple[Check, ...]
    table: Table | None = None
    notes: tuple[str, ...] = ()
    series: tuple[Series, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """`id` is its letter in the list; `seconds` says roughly how long a full run takes."""

    id: str
    title: str
    measure: Callable[[Options], Result]
    seconds: int
    quick: bool = False
    """Whether a quick run has it."""


def ratio(
    name: str, ours: Sequence[float], theirs: Sequence[float], *, limit: float, stretch: float | None = None
) -> Check:
    """The median of the rounds' ratios: what slows a machine for a while slows both sides of one round."""
    rounds = tuple(our / their for our, their in zip(ours, theirs, strict=True))
    return Check(name, statistics.median(rounds), limit, stretch=stretch, rounds=rounds)


def median(name: str, values: Sequence[float], *, limit: float, unit: str) -> Check:
    """The median of the rounds' values."""
    return Check(name, statistics.median(values), limit, unit=unit, rounds=tuple(values))
