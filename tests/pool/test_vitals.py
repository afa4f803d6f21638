"""What a worker works out of its counts, by a clock of the test's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metagame import __version__
from services.meter import Meter
from services.meter.layout import ATTACHED, COMMITS, NANO, REASONS, REQUESTS, ROUND_TRIPS
from services.vitals import BOUNDS_MS, Counts, Pulse, Vitals, counts_of, percentiles, read

BOUNDS = (1.0, 2.0, 4.0)


class World:
    """A worker whose counts and time the test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self.draining = False
        self.counts = Counts(0, 0, 0, 0, 0.0, 0, BOUNDS, (0,) * 4, (0,) * 4)
        self.pulse = Pulse("1234abcd", lambda: self.counts, draining=lambda: self.draining, clock=lambda: self.now)

    def passes(self, seconds: float, *, steps: int = 0, step_counts: tuple[int, ...] = (0,) * 4) -> None:
        """Time, in which so much was done; then a beat."""
        counts = self.counts
        self.counts = replace(
            counts,
            steps=counts.steps + steps,
            requests=counts.requests + 2 * steps,
            cpu_s=counts.cpu_s + seconds / 2,
            step_counts=tuple(map(sum, zip(counts.step_counts, step_counts, strict=True))),
        )
        self.now += seconds
        self.pulse.beat()


@pytest.fixture
def world() -> World:
    return World()


def test_a_worker_that_has_done_nothing_says_so(world: World) -> None:
    vitals = world.pulse.vitals()
    assert (vitals.steps, vitals.steps_per_s, vitals.cpu, vitals.step_ms, vitals.redis_ms) == (0, 0, 0, (), ())
    assert (vitals.version, vitals.draining, len(world.pulse.worker_id)) == (__version__, False, 8)


def test_rates_are_of_the_last_turns_and_not_of_all_time(world: World) -> None:
    for _ in range(10):
        world.passes(2, steps=200)
    assert world.pulse.vitals().steps_per_s == 100
    assert world.pulse.vitals().requests_per_s == 200
    assert world.pulse.vitals().cpu == 0.5
    world.passes(2)
    assert world.pulse.vitals().steps_per_s == 50
    world.passes(2)
    assert world.pulse.vitals().steps_per_s == 0
    assert world.pulse.vitals().steps == 2000


def test_the_first_turn_has_a_rate_too(world: World) -> None:
    world.counts = replace(world.counts, steps=10)
    world.now += 0.5
    assert world.pulse.vitals().steps_per_s == 20


def test_latencies_are_of_the_last_ten_seconds(world: World) -> None:
    world.passes(2, step_counts=(0, 0, 0, 5))
    for _ in range(4):
        world.passes(2, step_counts=(3, 0, 1, 0))
    assert world.pulse.vitals().step_ms == ((0.0, 1.0, 12), (2.0, 4.0, 4), (4.0, None, 5))
    world.passes(2)
    assert world.pulse.vitals().step_ms == ((0.0, 1.0, 12), (2.0, 4.0, 4))
    for _ in range(5):
        world.passes(2)
    assert world.pulse.vitals().step_ms == ()


def test_a_worker_that_slept_compares_with_what_it_last_knew(world: World) -> None:
    world.passes(2, steps=10)
    world.passes(60, steps=90)
    assert world.pulse.vitals().steps_per_s == 1.5


def test_beats_are_not_kept_for_ever(world: World) -> None:
    for _ in range(1000):
        world.passes(0.5)
    assert len(world.pulse._beats) < 25


def test_draining_is_told(world: World) -> None:
    world.draining = True
    assert read(world.pulse.word()).draining


def test_a_word_is_read_as_it_was_told(world: World) -> None:
    world.passes(2, steps=7, step_counts=(1, 2, 3, 4))
    world.counts = replace(world.counts, errors={"SESSION_ERROR": 3, "VALIDATION_ERROR": 0}, attached=4, anonymous=1)
    vitals = read(world.pulse.word())
    assert vitals == world.pulse.vitals()
    assert vitals.errors == {"SESSION_ERROR": 3}


@pytest.mark.parametrize("word", [b"", b"\xff", b"[]", b"null", b'{"steps":"many"}', b'{"step_ms":[[1]]}'])
def test_what_cannot_be_read_says_nothing_but_that_somebody_is_there(word: bytes) -> None:
    assert read(word) == Vitals()


def test_percentiles_lie_evenly_inside_a_bucket() -> None:
    assert percentiles([(0.0, 1.0, 100)]) == {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
    assert percentiles([(0.0, 1.0, 50), (2.0, 4.0, 50)]) == {"p50": 1.0, "p90": 3.6, "p99": 3.96, "p99.9": 3.996}
    assert percentiles([(4.0, None, 1), (0.0, 1.0, 1)])["p99"] == 4.0
    assert percentiles([(0.0, 1.0, 100)], ("p50",)) == {"p50": 0.5}


@pytest.mark.parametrize("buckets", [[], [(0.0, 1.0, 0)]])
def test_where_nothing_was_measured_there_is_no_percentile(buckets: list[tuple[float, float | None, int]]) -> None:
    assert percentiles(buckets) == dict.fromkeys(("p50", "p90", "p99", "p99.9"))


def test_buckets_of_two_releases_are_read_in_one_answer() -> None:
    mixed = percentiles([(0.0, 1.0, 100), (0.0, 0.5, 100), (0.5, 1.5, 100)])
    assert 0.4 < (mixed["p50"] or 0) < 1.0


def test_a_meters_cells_are_counted_as_the_pool_tells_them() -> None:
    meter = Meter()
    for surface, operation, code in (
        ("websocket", "step", 2),
        ("http", "step", 1),
        ("mcp", "tools/call", 1),
        ("http", "reset", 5),
    ):
        for _ in range(code):
            meter.took(REQUESTS.at(surface, operation), 0)
    meter.count(COMMITS, "step", "committed", by=4)
    meter.count(COMMITS, "step", "stale", by=9)
    meter.count(REASONS, "SESSION_ERROR", "no_episode", by=2)
    meter.count(REASONS, "SESSION_ERROR", "session_lost")
    meter.count(ATTACHED, "named", by=3)
    meter.count(ATTACHED, "anonymous", by=2)
    meter.took(ROUND_TRIPS.first, 0)
    counts = counts_of(meter)
    assert (counts.steps, counts.requests, counts.attached, counts.anonymous) == (4, 9, 5, 2)
    assert counts.errors["SESSION_ERROR"] == 3
    assert (sum(counts.step_counts), sum(counts.redis_counts)) == (4, 1)
    assert len(counts.step_counts) == len(counts.bounds_ms) + 1 == len(BOUNDS_MS) + 1
    assert 0 < counts.cpu_s < 10_000 * NANO
