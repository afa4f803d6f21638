"""E and E2: what is open, answered and missing is counted."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.targets import Options, many
from bench.targets.many import Contestant, Scale, Servers, TooFewFiles, check_files, measure_more
from metagame.cli import processes

SMALL = Scale(60, steps=2, think_s=0.1, opened_per_s=200)


def test_all_sockets_open_and_step(options: Options) -> None:
    result = measure_more(options, SMALL)
    [figures] = result.figures.values()
    assert result.checks[0].value == 0
    assert all(len(figures[name]) == 1 for name in ("open_s", "socket_kb", "redis_kb", "p50_ms", "p99_ms"))
    assert 0 < figures["p50_ms"][0] <= figures["p99_ms"][0]
    # 60 sockets at 200 a second; the burst was opened as fast as accepted.
    assert figures["open_s"][0] > 0
    assert figures["redis_kb"][0] > 0


def test_sockets_that_find_no_place_are_errors(options: Options) -> None:
    @contextmanager
    def full() -> Iterator[Servers]:
        with processes.worker("worker", options.folder, METAGAME_MAX_SESSIONS="50") as worker:
            yield Servers((worker.port,), (worker.process.pid,))

    contestant = Contestant("full", full, ours=True)
    contestant.paced(SMALL)
    assert contestant.errors.count >= 10
    assert any("CAPACITY_REACHED" in text for text in contestant.errors.texts)


def test_fewer_open_files_than_sockets_need_are_told_beforehand(options: Options) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("as many files as one likes")
    count = many.SERVERS * hard
    with pytest.raises(TooFewFiles, match=r"ulimit -n \d+"):
        check_files(count)
