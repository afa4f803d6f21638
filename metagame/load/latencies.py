"""Exact latencies in ms, as arrays of doubles: percentiles, and a histogram for whoever keeps them."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
BUCKETS_PER_DECADE = 24
"""Each bucket reaches 10 % higher than the one before."""


def percentiles(values: Iterable[float], wanted: Iterable[float] = PERCENTILES) -> list[float]:
    """The values at these percentages of the sorted values, interpolated between neighbours; NaN for none."""
    ordered = sorted(values)
    if not ordered:
        return [math.nan for _ in wanted]
    found = []
    for percentage in wanted:
        place = (len(ordered) - 1) * percentage / 100
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        found.append(ordered[below] + (ordered[above] - ordered[below]) * (place - below))
    return found


def percentile(values: Iterable[float], percentage: float) -> float:
    """One of them."""
    return percentiles(values, (percentage,))[0]


def histogram(values: Iterable[float]) -> list[tuple[float, int]]:
    """Upper bound and count of each bucket that holds any, on a scale of logarithms."""
    counts = Counter(math.ceil(BUCKETS_PER_DECADE * math.log10(max(value, 1e-6))) for value in values)
    return [(float(f"{10 ** (bucket / BUCKETS_PER_DECADE):.4g}"), count) for bucket, count in sorted(counts.items())]


def summary(values: array[float]) -> dict[str, float]:
    """The percentiles that are always shown, and the longest; empty where nothing was measured."""
    if not values:
        return {}
    found = dict(zip((f"p{percentage:g}" for percentage in PERCENTILES), percentiles(values), strict=True))
    return {name: round(value, 4) for name, value in (found | {"max": max(values)}).items()}
