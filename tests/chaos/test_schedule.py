"""The schedule: the seed's alone, each kind in it, and nobody acts on a worker that sleeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.schedule import ASLEEP, CUTS, KINDS, LEASE_S, SETTLE_S, needs_s, plan

WORKERS = ("w1", "w2", "w3")


def test_it_follows_from_the_seed_alone() -> None:
    assert plan(7, 120, KINDS, WORKERS) == plan(7, 120, KINDS, WORKERS)
    assert plan(7, 120, KINDS, WORKERS) != plan(8, 120, KINDS, WORKERS)
    assert plan(7, 120, KINDS, WORKERS) == plan(7, 120, KINDS[::-1], WORKERS)


@given(st.integers(0, 2**32), st.sampled_from([120.0, 1200.0]))
def test_a_run_of_two_minutes_has_every_kind_and_a_pause_longer_than_a_lease(seed: int, duration_s: float) -> None:
    faults = plan(seed, duration_s, KINDS, WORKERS)
    assert {fault.kind for fault in faults} == set(KINDS)
    assert any(fault.kind == "pause" and fault.for_s > LEASE_S for fault in faults)
    assert faults == sorted(faults, key=lambda fault: fault.at_s)
    assert max(fault.at_s + fault.for_s for fault in faults) <= duration_s - SETTLE_S
    cuts = [fault.how.removeprefix(ASLEEP).split() for fault in faults if fault.kind == "cut"]
    assert all(sorted(how) == sorted(CUTS) for how in cuts)
    assert all(fault.after_ms == 0 for fault in {fault.kind: fault for fault in reversed(faults)}.values())


@given(st.integers(0, 2**32), st.sampled_from([2, 3, 5]))
def test_a_sleeping_worker_is_left_alone(seed: int, workers: int) -> None:
    faults = plan(seed, 300, KINDS, [f"w{number}" for number in range(workers)])
    for asleep in (fault for fault in faults if fault.long):
        meanwhile = [one for one in faults if asleep.at_s < one.at_s < asleep.at_s + asleep.for_s]
        assert not any(
            set(asleep.targets) & set(one.targets[:1] if one.kind == "cut" else one.targets) for one in meanwhile
        )
        cut_off = [one for one in meanwhile if one.how.startswith(ASLEEP)]
        assert all(one.kind == "cut" and one.targets[1:] == asleep.targets for one in cut_off)


def test_a_sleeping_worker_is_sometimes_cut_off_and_one_that_is_awake_never() -> None:
    cut_off = 0
    for seed in range(100):
        faults = plan(seed, 120, KINDS, WORKERS)
        for cut in (one for one in faults if one.how.startswith(ASLEEP)):
            assert any(one.long and one.at_s < cut.at_s < one.at_s + one.for_s + 1 for one in faults)
            cut_off += 1
    assert cut_off > 30


@given(st.integers(0, 2**32))
def test_the_only_worker_sleeps_by_itself(seed: int) -> None:
    faults = plan(seed, 200, KINDS, ["w1"])
    for asleep in (fault for fault in faults if fault.long):
        assert not [one for one in faults if asleep.at_s < one.at_s < asleep.at_s + asleep.for_s]


@given(
    st.integers(0, 2**32),
    st.sets(st.sampled_from(KINDS), min_size=1),
    st.sampled_from([WORKERS[:1], WORKERS]),
    st.sampled_from([0, 15, 30]),
)
def test_the_shortest_run_has_each_kind_once_at_least(
    seed: int, kinds: set[str], workers: tuple[str, ...], more_s: float
) -> None:
    chosen = sorted(kinds)
    planned = plan(seed, needs_s(chosen, len(workers)) + more_s, chosen, workers)
    assert {fault.kind for fault in planned} == kinds


def test_a_time_too_short_is_refused_with_the_time_it_takes() -> None:
    with pytest.raises(ValueError, match="need --duration 1"):
        plan(1, 5, ["kill", "cut"], WORKERS)


def test_no_faults_is_a_plan_too() -> None:
    assert plan(1, 10, [], WORKERS) == []


def test_a_fault_says_what_it_is() -> None:
    assert "pause" in str(next(fault for fault in plan(1, 120, KINDS, WORKERS) if fault.long))
