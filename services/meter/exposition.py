"""The counts as Prometheus reads them, in whichever text its request asks for.

prometheus_client writes the text. Importing it takes a worker's time and memory, so whoever is scraped does that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from .layout import DRAINING, FAMILIES, REDIS_AWAY, REDIS_FULL, REQUESTS, Family
from .shared import Totals

TOLD_OTHERWISE = (DRAINING, REDIS_AWAY, REDIS_FULL)
"""Families that are parts of others here."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is no count: labels of the build, and what the store was asked; None where it gave no answer."""

    build: dict[str, str]
    max_sessions: int
    resident_sessions: int | None
    redis: bool
    """Whether sessions are in Redis."""


def render(totals: Totals, facts: Facts, accept: str) -> tuple[bytes, str]:
    """The text for a request that accepts these types, and its own type."""
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Counts(totals, facts))
    return encode(registry), content_type


class _Counts(Collector):
    def __init__(self, totals: Totals, facts: Facts) -> None:
        self._totals = totals
        self._facts = facts

    def describe(self) -> list[Metric]:
        """Nothing, so that the registry does not collect all in order to know the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families."""
        cells, facts = self._totals.cells, self._facts
        build = GaugeMetricFamily("metagame_build_info", "What runs here; the value is 1.", labels=list(facts.build))
        build.add_metric(list(facts.build.values()), 1)
        yield build
        yield _requests(cells)
        for family in FAMILIES:
            if family not in TOLD_OTHERWISE:
                yield _histogram(family, cells) if family.bounds else _plain(family, cells)
        draining = DRAINING.total(cells)
        workers = GaugeMetricFamily("metagame_workers", "Living workers, by state.", labels=["state"])
        workers.add_metric(["serving"], self._totals.living - draining)
        workers.add_metric(["draining"], draining)
        yield workers
        if facts.redis:
            yield _gauge("metagame_redis_up", "1 where every worker here finds Redis.", not REDIS_AWAY.total(cells))
            yield _gauge("metagame_redis_full", "1 where Redis has no room.", bool(REDIS_FULL.total(cells)))
        yield _gauge("metagame_max_sessions", "Sessions that the whole pool may have.", facts.max_sessions)
        if facts.resident_sessions is not None:
            text = "Sessions of the whole pool, with a socket or without; the same at every worker."
            yield _gauge("metagame_resident_sessions", text, facts.resident_sessions)


def _requests(cells: Sequence[int]) -> Metric:
    """The durations' counts once more, under a name that is easier to find."""
    family = CounterMetricFamily("metagame_requests", "Requests.", labels=list(REQUESTS.labels))
    for values, first in REQUESTS.cells():
        family.add_metric(list(values), sum(cells[first : first + len(REQUESTS.bounds) + 1]))
    return family


def _histogram(family: Family, cells: Sequence[int]) -> Metric:
    told = HistogramMetricFamily(family.name, family.help, labels=list(family.labels))
    bounds = [*[_bound(bound / family.scale) for bound in family.bounds], "+Inf"]
    for values, first in family.cells():
        counts = accumulate(cells[first : first + len(bounds)])
        total = cells[first + len(bounds)] / family.scale
        told.add_metric(list(values), list(zip(bounds, counts, strict=True)), total)
    return told


def _plain(family: Family, cells: Sequence[int]) -> Metric:
    kind: type[GaugeMetricFamily | CounterMetricFamily]
    kind = GaugeMetricFamily if family.kind == "gauge" else CounterMetricFamily
    told = kind(family.name, family.help, labels=list(family.labels))
    for values, cell in family.cells():
        told.add_metric(list(values), cells[cell] / family.scale)
    return told


def _bound(value: float) -> str:
    """As Prometheus writes it: 1.0, 0.0001."""
    return f"{value:.9f}".rstrip("0") if value % 1 else f"{value:.1f}"


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
