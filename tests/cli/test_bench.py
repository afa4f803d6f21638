"""`metagame bench` as somebody types it, on a worker, on the reference server, and where it cannot be done."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metagame.cli import processes
from metagame.load.usage import resident_bytes
from tests.processes import processes_with
from tests.servers import run_server


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Child]:
    with processes.worker("worker", tmp_path_factory.mktemp("worker")) as started:
        yield started


def bench(where: processes.Child | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = where if isinstance(where, str) else f"http://127.0.0.1:{where.port}"
    return subprocess.run(
        [sys.executable, "-m", "metagame", "bench", url, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def measured(where: processes.Child | str, *arguments: str) -> dict[str, Any]:
    done = bench(where, *arguments, "--json")
    shown: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if shown["passed"] else 1)
    assert (shown["schema_version"], shown["command"]) == (1, "bench")
    return shown


def test_the_table_says_what_was_measured_what_it_cost_and_how_to_read_it(worker: processes.Child) -> None:
    done = bench(worker, "--sockets", "4", "--steps", "50", "--pid", str(worker.process.pid))
    assert done.returncode == 0, done.stdout + done.stderr
    for text in (
        "is a Metagame server",
        "4 sockets open after",
        "Every answer checked",
        "steps/s",
        "p50",
        "p99.9",
        f"process {worker.process.pid}, CPU per step",
        f"process {worker.process.pid}, memory per socket opened",
        "this load, CPU per step",
        "Closed loop",
    ):
        assert text in done.stdout


@pytest.mark.parametrize("http", [(), ("--http",)], ids=["sockets", "http"])
def test_json_is_one_object_with_everything(worker: processes.Child, http: tuple[str, ...]) -> None:
    pid = worker.process.pid
    shown = measured(worker, "--sockets", "5", "--steps", "20", "--processes", "2", "--pid", str(pid), *http)
    assert (shown["server"], shown["loop"], shown["request_ids"]) == ("metagame", "closed", True)
    assert (shown["sockets"], shown["steps"], shown["steps_not_sent"]) == (5, 100, 0)
    assert shown["errors"] == {"count": 0, "texts": []}
    assert list(shown["latency_ms"]) == ["p50", "p90", "p99", "p99.9", "max"]
    assert sum(count for _, count in shown["histogram_ms"]) == 100
    assert (shown["load"]["processes"], len(shown["load"]["cpu_s"])) == (2, 2)
    [process] = shown["processes"]
    assert process["pid"] == pid
    assert process["cpu_s"] > 0
    assert process["us_per_step"] == pytest.approx(process["cpu_s"] / 100 * 1e6, rel=0.01)
    assert process["resident_bytes"] > 10_000_000


def test_a_process_is_measured_with_those_it_started(tmp_path: Path) -> None:
    with processes.redis(tmp_path) as store, run_server(METAGAME_REDIS_URL=store.url, METAGAME_WORKERS="2") as server:
        shown = measured(server.url, "--sockets", "8", "--steps", "50", "--pid", str(server.process.pid))
        supervisor_bytes = resident_bytes(server.process.pid)
        server.terminate()  # a supervisor that is killed leaves its workers behind
    [process] = shown["processes"]
    assert process["us_per_step"] > 20
    assert process["resident_bytes"] > supervisor_bytes + 2 * 30_000_000


def test_an_open_loop_has_its_rate(worker: processes.Child) -> None:
    shown = measured(worker, "--sockets", "4", "--duration-s", "1", "--rate", "100")
    assert (shown["loop"], shown["rate_per_s"], shown["steps"]) == ("open", 100, 100)
    assert shown["seconds"] > 0.9


def test_a_rate_that_is_not_kept_is_said(worker: processes.Child) -> None:
    asked = ("--sockets", "1", "--steps", "2000", "--rate", "1000000")
    assert "The rate was not kept" in bench(worker, *asked).stdout
    assert measured(worker, *asked)["rate_kept"] is False
    assert measured(worker, "--sockets", "4", "--steps", "20", "--rate", "100")["rate_kept"] is True


def test_a_watched_process_that_ends_during_the_run_costs_its_own_figures_only(worker: processes.Child) -> None:
    watched = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    url, pid = f"http://127.0.0.1:{worker.port}", str(watched.pid)
    command = [sys.executable, "-u", "-m", "metagame", "bench", url, "--duration-s", "2", "--pid", pid]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    try:
        assert any("open after" in line for line in running.stdout)
        watched.kill()
        watched.wait()
        said, _ = running.communicate(timeout=30)
    finally:
        running.kill()
        watched.kill()
        watched.wait()
    assert running.returncode == 1
    assert re.search(rf"process {pid}\W+ended during the run", said)
    assert "steps/s" in said


def test_anonymous_sockets_stock_frames_and_a_source_address(worker: processes.Child) -> None:
    shown = measured(worker, "--sockets", "3", "--steps", "2", "--anonymous", "--stock", "--source", "127.0.0.1")
    assert (shown["steps"], shown["request_ids"]) == (6, False)


@pytest.mark.parametrize(("http", "surface"), [((), "websocket"), (("--http",), "stateless_http")])
def test_the_reference_server_is_measured_as_it_is(
    reference: processes.Child, http: tuple[str, ...], surface: str
) -> None:
    shown = measured(reference, "--sockets", "4", "--steps", "10", *http)
    assert (shown["server"], shown["surface"], shown["request_ids"]) == ("other", surface, False)
    assert (shown["passed"], shown["steps"]) == (True, 40)


def test_errors_are_counted_shown_and_exit_with_1(reference: processes.Child) -> None:
    done = bench(reference, "--sockets", "2", "--steps", "3", "--request-ids")
    assert done.returncode == 1
    assert "Something is wrong" in done.stdout
    assert "VALIDATION_ERROR" in done.stdout
    shown = measured(reference, "--sockets", "2", "--steps", "3", "--request-ids")
    assert (shown["passed"], shown["errors"]["count"], shown["steps"]) == (False, 6, 0)


def test_sockets_that_find_no_place_exit_with_1(tmp_path: Path) -> None:
    with processes.worker("full", tmp_path, METAGAME_MAX_SESSIONS="2") as worker:
        shown = measured(worker, "--sockets", "3", "--steps", "2")
    assert (shown["passed"], shown["sockets"], shown["steps"], shown["errors"]["count"]) == (False, 2, 4, 1)


def test_a_server_whose_store_is_away_exits_with_3(tmp_path: Path) -> None:
    with processes.redis(tmp_path) as redis, processes.worker("away", tmp_path, redis.url) as worker:
        redis.process.kill()
        redis.process.wait()
        done = bench(worker, "--sockets", "2", "--steps", "2")
    assert done.returncode == 3
    assert "is a Metagame server" in done.stdout
    assert "None of 2 sockets opened" in done.stderr


def test_nobody_there_exits_with_3() -> None:
    done = bench(f"http://127.0.0.1:{processes.free_port()}", "--json")
    assert done.returncode == 3
    assert "No server answers at" in done.stderr
    assert json.loads(done.stdout)["passed"] is False


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nonsense",), "no server's address"),
        (("http://127.0.0.1:9/sessions/a",), "names a session"),
        (("http://127.0.0.1:9", "--steps", "1", "--duration-s", "1"), "give one of them"),
        (("http://127.0.0.1:9", "--rate", "1", "--think-time", "1"), "open loop"),
        (("http://127.0.0.1:9", "--http", "--anonymous"), "over HTTP a session has a name"),
        (("http://127.0.0.1:9", "--header", "Authorization"), "--header is 'Authorization'"),
        (("http://127.0.0.1:9", "--pid", "4194305"), "no process 4194305"),
        (("http://127.0.0.1:9", "--sockets", "0"), "--sockets"),
        (("http://127.0.0.1:9", "--rate", "x"), "--rate"),
        ((), "URL"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(arguments: tuple[str, ...], says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "metagame", "bench", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_more_sockets_than_files_may_be_open_are_refused_beforehand(worker: processes.Child) -> None:
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); "
    program = limited + "from metagame.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "bench", f"http://127.0.0.1:{worker.port}", "--steps", "1"]
    for processes_, code in (("1", 2), ("2", 0)):
        done = subprocess.run(
            [*command, "--sockets", "300", "--processes", processes_], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert ("ulimit -n 350" in done.stderr) == (code == 2)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=lambda ending: ending.name)
def test_a_stopped_bench_leaves_no_process(worker: processes.Child, ending: signal.Signals, tmp_path: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-u", "-m", "metagame", "bench", f"http://127.0.0.1:{worker.port}", "--duration-s", "3600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"BENCH_TEST_MARK": tmp_path.name},
    )
    assert running.stdout is not None
    try:
        assert any("open after" in line for line in running.stdout)
        running.send_signal(ending)
        _, said = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == 130, said
    assert "nothing is left running" in said
    ends = time.monotonic() + 5
    while (left := processes_with(f"BENCH_TEST_MARK={tmp_path.name}")) and time.monotonic() < ends:
        time.sleep(0.05)
    assert left == []
