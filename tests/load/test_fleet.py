"""A fleet on real workers: both loops, every surface, processes put together, and what becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from metagame.cli import processes
from metagame.load import Fleet, FleetFailed, Play, Sockets
from metagame.load.latencies import percentile
from metagame.load.spec import Surface
from tests.processes import processes_with


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Child]:
    with processes.worker("worker", tmp_path_factory.mktemp("worker")) as started:
        yield started


def sockets_to(
    *workers: processes.Child, count: int = 4, surface: Surface = "websocket", named: bool = True
) -> Sockets:
    addresses = tuple(("127.0.0.1", worker.port) for worker in workers)
    return Sockets(addresses=addresses, count=count, surface=surface, named=named)


@pytest.mark.parametrize(
    ("surface", "named"),
    [("websocket", True), ("websocket", False), ("http", True)],
    ids=["named", "anonymous", "http"],
)
@pytest.mark.parametrize(
    "play",
    [Play(steps=5), Play(steps=5, think_s=0.001), Play(steps=5, rate_per_s=500)],
    ids=["closed", "thinking", "open"],
)
def test_each_socket_takes_its_steps(worker: processes.Child, surface: Surface, play: Play, *, named: bool) -> None:
    with Fleet(sockets_to(worker, surface=surface, named=named)) as fleet:
        opened = fleet.open()
        assert (opened.count, opened.errors.count, len(opened.open_ms)) == (4, 0, 4)
        for _ in range(2):
            found = fleet.play(play)
            assert (found.steps, found.unsent, found.errors.count, len(found.latency_ms)) == (20, 0, 0, 20)
            assert found.own_us_per_step > 0


def test_two_processes_are_put_together(worker: processes.Child, tmp_path: Path) -> None:
    sources = ("127.0.0.2", "127.0.0.3") if sys.platform == "linux" else ()
    with processes.worker("second", tmp_path) as second:
        base = sockets_to(worker, second, count=7)
        sockets = Sockets(addresses=base.addresses, count=7, sources=sources, per_s=200)
        with Fleet(sockets, processes=2) as fleet:
            opened = fleet.open()
            found = fleet.play(Play(steps=11))
            assert len(fleet.pids) == 2
            served = [_sessions(one) for one in (worker, second)]
            fleet.close()
            left = [_sessions(one) for one in (worker, second)]
    assert (opened.count, len(opened.open_ms), len(opened.own_cpu_s)) == (7, 7, 2)
    assert (found.steps, len(found.latency_ms), len(found.own_cpu_s)) == (77, 77, 2)
    assert served[0] + served[1] >= 7
    assert served[1] == 3
    assert left[1] == 0


@pytest.mark.parametrize("surface", ["websocket", "http"])
def test_closing_ends_the_sessions(worker: processes.Child, surface: Surface) -> None:
    before = _sessions(worker)
    with Fleet(sockets_to(worker, surface=surface)) as fleet:
        fleet.open()
        assert _sessions(worker) == before + 4
        fleet.close()
        assert _sessions(worker) == before


def test_a_play_that_is_stopped_waits_for_what_is_under_way(worker: processes.Child) -> None:
    with Fleet(sockets_to(worker)) as fleet:
        fleet.open()
        for play in (Play(duration_s=3600), Play(steps=9, think_s=3600), Play(duration_s=3600, rate_per_s=1)):
            fleet.begin(play)
            fleet.stop()
            found = fleet.finish()
            assert (found.errors.count, found.unsent) == (0, 0)


def test_a_closed_loop_ends_with_its_time_though_sockets_think(worker: processes.Child) -> None:
    with Fleet(sockets_to(worker)) as fleet:
        fleet.open()
        began = time.monotonic()
        fleet.play(Play(duration_s=0.2, think_s=3600))
    assert time.monotonic() - began < 60


def test_an_open_loop_counts_the_waiting_that_a_closed_one_hides(worker: processes.Child) -> None:
    """The worker stalls for half a second: of 400 steps that were due in two seconds 100 had to wait for it."""
    p99_ms = {}
    for name, play in (("closed", Play(duration_s=2)), ("open", Play(duration_s=2, rate_per_s=200))):
        with Fleet(sockets_to(worker)) as fleet:
            fleet.open()
            fleet.begin(play)
            worker.process.send_signal(signal.SIGSTOP)
            try:
                time.sleep(0.5)  # the stall itself
            finally:
                worker.process.send_signal(signal.SIGCONT)
            found = fleet.finish()
            assert (found.errors.count, found.unsent) == (0, 0)
            if name == "open":
                assert found.steps == 400
                assert sum(latency > 50 for latency in found.latency_ms) > 50
            assert max(found.latency_ms) > 400
            p99_ms[name] = percentile(found.latency_ms, 99)
    assert p99_ms["open"] > 400
    assert p99_ms["closed"] < p99_ms["open"] / 4


@pytest.mark.parametrize("play", [Play(duration_s=60), Play(duration_s=60, rate_per_s=500)], ids=["closed", "open"])
def test_a_worker_that_is_killed_is_an_error_for_each_socket_and_the_play_ends(play: Play, tmp_path: Path) -> None:
    with processes.worker("killed", tmp_path) as worker, Fleet(sockets_to(worker)) as fleet:
        fleet.open()
        fleet.begin(play)
        worker.kill()
        if play.rate_per_s:
            fleet.stop()
        found = fleet.finish()
    assert found.errors.count == 4
    assert "closed" in found.errors.texts[0] or "reset by peer" in found.errors.texts[0]


def test_sockets_that_find_no_place_are_errors(tmp_path: Path) -> None:
    with processes.worker("full", tmp_path, METAGAME_MAX_SESSIONS="3") as worker, Fleet(sockets_to(worker)) as fleet:
        opened = fleet.open()
        found = fleet.play(Play(steps=2))
    assert (opened.count, opened.errors.count, found.steps) == (3, 1, 6)
    assert "CAPACITY_REACHED" in opened.errors.texts[0]


@pytest.mark.parametrize("sources", [(), ("127.0.0.1",)], ids=["any address", "a given one"])
def test_nobody_there_is_an_error_for_each_socket(sources: tuple[str, ...]) -> None:
    sockets = Sockets(addresses=(("127.0.0.1", processes.free_port()),), count=3, sources=sources)
    with Fleet(sockets) as fleet:
        opened = fleet.open()
        found = fleet.play(Play(steps=1))
    assert (opened.count, opened.errors.count, found.steps) == (0, 3, 0)
    assert "Errno" in opened.errors.texts[0]


def test_a_load_process_that_dies_is_told(worker: processes.Child) -> None:
    with Fleet(sockets_to(worker), processes=2) as fleet:
        fleet.open()
        fleet.begin(Play(duration_s=3600))
        os.kill(fleet.pids[1], signal.SIGKILL)
        fleet.stop()
        with pytest.raises(FleetFailed, match="a load process ended"):
            fleet.finish()


def test_load_processes_end_with_their_parent(worker: processes.Child, tmp_path: Path) -> None:
    program = (
        "import sys; from metagame.load import *\n"
        f"with Fleet(Sockets(addresses=(('127.0.0.1', {worker.port}),), count=2)) as fleet:\n"
        "    fleet.open(); fleet.begin(Play(duration_s=3600)); print('begun', flush=True); sys.stdin.read()\n"
    )
    mark = tmp_path.name
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"LOAD_TEST_MARK": mark},
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"begun\n"
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while processes_with(f"LOAD_TEST_MARK={mark}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_with(f"LOAD_TEST_MARK={mark}") == []


def _sessions(worker: processes.Child) -> int:
    answer = httpx.get(f"http://127.0.0.1:{worker.port}/sessions", params={"limit": 1000}, trust_env=False)
    return len(answer.json()["sessions"])
