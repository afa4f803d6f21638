"""Percentiles, histograms, parts of a plan, and what is read about processes."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import sys
import time
from array import array
from typing import Any

import pytest

from metagame.load import Errors, Play, Sockets
from metagame.load.alarm import Alarm
from metagame.load.connections import Http
from metagame.load.latencies import BUCKETS_PER_DECADE, histogram, percentile, percentiles, summary
from metagame.load.usage import cpu_s, resident_bytes, tree

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("count", [2, 3, 10, 999, 5000])
def test_percentiles_are_those_of_the_standard_library(count: int) -> None:
    values = [random.Random(count + number).expovariate(1) for number in range(count)]
    cuts = statistics.quantiles(values, n=1000, method="inclusive")
    assert percentiles(values, (50, 90, 99, 99.9)) == pytest.approx([cuts[499], cuts[899], cuts[989], cuts[998]])
    assert percentile(values, 100) == max(values)


def test_nothing_measured_has_no_percentiles() -> None:
    assert summary(array("d")) == {}
    assert percentile([], 50) != percentile([], 50)


def test_a_histogram_has_everything_in_buckets_ten_per_cent_wide() -> None:
    values = [random.Random(number).lognormvariate(0, 2) for number in range(2000)]
    buckets = histogram(values)
    assert sum(count for _, count in buckets) == 2000
    assert sum(value <= buckets[3][0] for value in values) == sum(count for _, count in buckets[:4])
    assert [bound for bound, _ in buckets] == sorted(bound for bound, _ in buckets)
    assert buckets[-1][0] / max(values) < 10 ** (1 / BUCKETS_PER_DECADE) * 1.001


def test_parts_of_a_fleet_have_each_socket_once() -> None:
    parts = Sockets(addresses=(("h", 1),), count=11, at_once=64, per_s=30, sources=("a", "b")).parts(4)
    numbers = [number for part in parts for number in range(part.first, part.first + part.count)]
    assert numbers == list(range(11))
    assert len({part.session(number) for part in parts for number in numbers}) == 11
    assert [part.sources for part in parts] == [("a",), ("b",), ("a",), ("b",)]
    assert sum(part.per_s or 0 for part in parts) == pytest.approx(30)
    assert len(Sockets(addresses=(("h", 1),), count=2).parts(4)) == 2


def test_sockets_cross_the_pipe_as_they_are() -> None:
    sockets = Sockets(addresses=(("h", 1), ("i", 2)), count=3, headers=(("A", "b"),), sources=("c",), per_s=2.5)
    assert Sockets.from_json(sockets.as_json()) == sockets
    play = Play(duration_s=2, rate_per_s=7)
    assert Play.from_json(play.as_json()) == play


def test_parts_of_an_open_loop_make_its_rate_and_take_turns() -> None:
    parts = Play(duration_s=1, rate_per_s=100).parts([3, 1])
    assert [part.rate_per_s for part in parts] == [75, 25]
    assert [part.offset_s for part in parts] == [0, 0.01]


@pytest.mark.parametrize(
    "wrong", [{}, {"steps": 1, "duration_s": 1.0}, {"steps": 1, "rate_per_s": 5.0, "think_s": 1.0}], ids=str
)
def test_a_play_without_an_end_or_with_two_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"ends|think"):
        Play(**wrong)


def test_errors_that_differ_in_numbers_are_counted_and_kept_once() -> None:
    errors = Errors()
    for number in range(50):
        errors.add(f"step {number}: id {number:032x}")
    errors.add("another")
    other = Errors()
    other.add("another")
    errors.merge(other)
    assert (errors.count, errors.texts) == (52, ["step 0: id " + "0" * 32, "another"])


async def test_an_alarm_rings_once_for_each_setting_and_never_early() -> None:
    rung: asyncio.Queue[float] = asyncio.Queue()
    alarm = Alarm(lambda: rung.put_nowait(time.perf_counter()))
    try:
        for moment in (time.perf_counter() + 0.02, time.perf_counter() - 1):
            alarm.set(moment)
            assert await asyncio.wait_for(rung.get(), 20) >= moment
        assert rung.empty()
    finally:
        alarm.close()


async def test_http_answers_in_pieces_and_together_are_told_apart() -> None:
    answers: list[bytes] = []
    connection = Http("host")
    connection.on_answer = answers.append
    ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    for piece in (ok[:5], ok[5:30], ok[30:] + ok + b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nwait"):
        connection.data_received(piece)
    connection.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert answers == [b"{}", b"{}", b"HTTP 503 Busy: wait", b""]


def test_cpu_time_and_memory_are_those_of_the_process() -> None:
    program = (
        "import sys; held = bytearray(50_000_000); [x * x for x in range(3_000_000)]; print(1, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert 0.01 < cpu_s(child.pid) < 60
        assert resident_bytes(child.pid) > 50_000_000
        assert child.pid in tree(os.getpid())
    for read in (cpu_s, resident_bytes):
        with pytest.raises(ProcessLookupError, match=f"no process {child.pid}"):
            read(child.pid)
