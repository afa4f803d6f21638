"""`metagame pool`: what `GET /pool` says, as a table, a line, JSON, and live on a terminal."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from metagame.cli.pool_view import sparkline
from tests.cli.scripted import Said, scripted
from tests.cli.typed import metagame, objects, on_terminal
from tests.redis_servers import RedisServer
from tests.servers import run_server
from tests.survival.workers import workers
from tests.wire.sockets import ask, open_socket, step_number

LATENCY = {"p50": 0.81, "p90": 1.24, "p99": 3.1, "p99.9": 12.6}
WORKER = {
    "worker_id": "a1b2c3d4",
    "host": "web-1",
    "pid": 123,
    "version": "0.1.0",
    "state": "ready",
    "started_at": time.time() - 3 * 3600,
    "seen_s": 0.7,
    "attached": 50,
    "anonymous": 10,
    "steps": 61_728,
    "steps_per_s": 406.2,
    "latency_ms": LATENCY,
    "redis_round_trip_ms": {"p50": 0.21, "p99": 0.95},
    "resident_bytes": 71_500_000,
    "cpu": 0.42,
}
NODE = {
    "node": "127.0.0.1:6379",
    "role": "primary",
    "state": "up",
    "version": "7.0.15",
    "used_memory_bytes": 12_345_678,
    "max_memory_bytes": 1_000_000_000,
    "clients": 8,
    "commands_per_s": 1_200.0,
    "aof": True,
    "fsync": "everysec",
}
POOL: dict[str, Any] = {
    "schema_version": 1,
    "at": time.time(),
    "store": "redis",
    "sessions": {"total": 120, "attached": 100, "anonymous": 20, "detached": 20, "max": 10_000},
    "steps": {"total": 123_456, "per_s": 812.4},
    "requests": {"total": 130_000, "per_s": 815.0},
    "errors": {"SESSION_ERROR": 3, "VALIDATION_ERROR": 0},
    "latency_ms": LATENCY,
    "workers": [
        WORKER,
        WORKER | {"worker_id": "b2c3d4e5", "state": "draining"},
        WORKER | {"worker_id": "c3d4e5f6", "state": "silent", "seen_s": 9.4, "cpu": None, "latency_ms": {}},
    ],
    "redis": [NODE, NODE | {"node": "127.0.0.1:6380", "role": "replica", "state": "down", "fsync": None}],
}
IN_MEMORY = POOL | {
    "store": "memory",
    "redis": [],
    "latency_ms": dict.fromkeys(LATENCY),
    "workers": [WORKER | {"redis_round_trip_ms": None}],
}


def changed(**more: Any) -> dict[str, Any]:
    return copy.deepcopy(POOL) | more


def test_the_status_shows_sessions_steps_latencies_errors_workers_and_redis() -> None:
    with scripted({"/pool": Said(200, POOL)}) as server:
        done = metagame("pool", "status", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    for text in (
        f"Pool at {server.url}",
        "120 of 10,000: 100 attached (20 anonymous), 20 detached",
        "812/s, 123,456 of these workers",
        "p50 0.81 ms   p90 1.24 ms   p99 3.10 ms   p99.9 13 ms",
        "SESSION_ERROR 3",
    ):
        assert text in done.stdout
    assert "VALIDATION_ERROR" not in done.stdout, "none happened"
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["a1b2c3d4", "web-1", "123", "0.1.0", "ready", "50", "406", "0.81", "ms"] in [row[:9] for row in rows]
    assert ["42%", "3", "h"] in [row[-3:] for row in rows]
    [silent] = [line for line in done.stdout.splitlines() if "c3d4e5f6" in line]
    assert "silent 9.4 s" in silent
    assert [
        "127.0.0.1:6379",
        "primary",
        "up",
        "7.0.15",
        "12",
        "MB",
        "of",
        "1.0",
        "GB",
        "8",
        "1,200",
        "everysec",
    ] in rows
    assert any(row[:3] == ["127.0.0.1:6380", "replica", "down"] for row in rows)


def test_those_in_trouble_come_first() -> None:
    with scripted({"/pool": Said(200, POOL)}) as server:
        shown = metagame("pool", "status", server.url).stdout
    assert shown.index("b2c3d4e5") < shown.index("c3d4e5f6") < shown.index("a1b2c3d4")


def test_a_pool_in_memory_that_measured_nothing_yet_is_shown_too() -> None:
    with scripted({"/pool": Said(200, IN_MEMORY)}) as server:
        shown = metagame("pool", "status", server.url).stdout
    assert "p50 -   p90 -   p99 -   p99.9 -" in shown
    assert "replica" not in shown


def test_what_a_later_release_leaves_out_breaks_nothing() -> None:
    few = {
        "sessions": {"total": 1, "attached": 1, "anonymous": 0, "detached": 0},
        "steps": {"total": 1, "per_s": None},
        "workers": [{"worker_id": "a", "state": "ready"}],
        "redis": [{"node": "r:1", "state": "up"}],
    }
    with scripted({"/pool": Said(200, few)}) as server:
        for verb in ("status", "watch"):
            with on_terminal("pool", verb, server.url) as terminal:
                terminal.until("ready")
                assert "Traceback" not in terminal.text


def test_a_store_that_gives_no_answer_is_said_and_exits_with_3() -> None:
    alone = POOL | {"sessions": POOL["sessions"] | {"total": None, "detached": None}}
    with scripted({"/pool": Said(200, alone)}) as server:
        done = metagame("pool", "status", server.url)
        [shown] = objects("pool", "status", server.url, code=3)
    assert done.returncode == 3
    assert "these figures are of the one worker that was asked" in done.stdout
    assert shown["sessions"]["total"] is None


def test_json_is_the_pools_own_words() -> None:
    with scripted({"/pool": Said(200, POOL)}) as server:
        [shown] = objects("pool", "status", server.url)
    assert shown == POOL | {"command": "pool status"}


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_nothing_is_wider_than_it(columns: int) -> None:
    with (
        scripted({"/pool": Said(200, POOL)}) as server,
        on_terminal("pool", "status", server.url, columns=columns) as terminal,
    ):
        assert terminal.ends() == 0
        assert terminal.widest <= columns
        for text in ("a1b2c3d4", "everysec", "p99.9 13 ms", "silent"):
            assert text in terminal.text
        assert ("web-1" in terminal.text) == (columns == 120)


def test_a_watch_on_a_terminal_draws_steps_and_ends_with_130() -> None:
    with (
        scripted({"/pool": Said(200, POOL)}) as server,
        on_terminal("pool", "watch", server.url, "--every", "0.2") as terminal,
    ):
        terminal.until("812/s")
        server.answers["/pool"] = Said(200, changed(steps={"total": 1, "per_s": 406.2}))
        terminal.until("406/s", "█▅")
        assert terminal.ends(signal.SIGINT) == 130
        assert "Traceback" not in terminal.text
        assert "406/s" in terminal.text[-2000:], "the last look stays when the screen is gone"


def test_a_watch_outlives_a_server_that_is_away_and_says_so() -> None:
    with (
        scripted({"/pool": Said(200, POOL)}) as server,
        on_terminal("pool", "watch", server.url, "--every", "0.2", columns=160) as terminal,
    ):
        terminal.until("812/s")
        server.answers["/pool"] = Said(503, {"detail": "The store is away.", "code": "SESSION_ERROR"})
        terminal.until("Not the newest:", "The store is away.")
        server.answers["/pool"] = Said(200, changed(steps={"total": 1, "per_s": 99.5}))
        terminal.until("99.5/s")
        assert terminal.ends(signal.SIGTERM) == 130


def test_a_screen_that_is_too_short_shows_those_in_trouble_and_counts_the_rest() -> None:
    many = [WORKER | {"worker_id": f"{number:08x}"} for number in range(40)]
    trouble = WORKER | {"worker_id": "ffffffff", "state": "silent"}
    with (
        scripted({"/pool": Said(200, changed(workers=[*many, trouble]))}) as server,
        on_terminal("pool", "watch", server.url, lines=24) as terminal,
    ):
        terminal.until("ffffffff", "more, all ready", "everysec")


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["lines", "json"])
def test_where_no_terminal_is_it_prints_a_line_each_time(as_json: tuple[str, ...]) -> None:
    with scripted({"/pool": Said(200, POOL)}) as server:
        watch = subprocess.Popen(
            [sys.executable, "-m", "metagame", "pool", "watch", server.url, "--every", "0.2", *as_json],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert watch.stdout is not None
        try:
            lines = [watch.stdout.readline() for _ in range(3)]
            server.answers["/pool"] = Said(503)
            assert any("cannot answer now" in line for line in watch.stdout)
            watch.send_signal(signal.SIGINT)
            _, said = watch.communicate(timeout=30)
        finally:
            watch.kill()
    assert (watch.returncode, said) == (130, "")
    for line in lines:
        if as_json:
            assert json.loads(line) == POOL | {"command": "pool watch"}
        else:
            assert line.partition("  ")[2] == (
                "120 sessions (100 attached)  812 steps/s  p50 0.81 ms  p99 3.10 ms  3 errors"
                "  workers: 1 ready, 1 draining, 1 silent  redis: 1 up, 1 down\n"
            )


def test_two_workers_of_one_pool_are_shown_by_either(redis_at: RedisServer) -> None:
    with (
        workers(2, METAGAME_REDIS_URL=redis_at.url) as both,
        open_socket(both[0].server.ws_url, "/sessions/one/ws") as socket,
    ):
        ask(socket, {"type": "reset"})
        step_number(socket)
        shown = [two_workers(one.url) for one in both]
    for pool in shown:
        assert (pool["store"], pool["sessions"]["total"], pool["sessions"]["attached"]) == ("redis", 1, 1)
        assert [one["state"] for one in pool["redis"]] == ["up"]


def two_workers(url: str) -> dict[str, Any]:
    """The pool once both workers, and of the open socket one, have told of themselves; the table shows them too."""
    ends = time.monotonic() + 30
    while True:
        [pool] = objects("pool", "status", url)
        if [one["state"] for one in pool["workers"]] == ["ready", "ready"] and pool["sessions"]["attached"]:
            table = metagame("pool", "status", url).stdout
            assert all(one["worker_id"] in table for one in pool["workers"])
            return pool
        assert time.monotonic() < ends, pool


def test_with_keys_the_pool_and_its_sessions_are_for_whoever_has_one() -> None:
    with run_server(until="/health", METAGAME_API_KEYS="a-good-key-1,a-good-key-2") as server:
        for command in (("pool", "status"), ("sessions", "list")):
            done = metagame(*command, server.url)
            assert (done.returncode, done.stdout) == (2, "")
            assert "wants an API key" in done.stderr
            assert metagame(*command, server.url, METAGAME_API_KEY="a-good-key-2").returncode == 0
        done = metagame("demo", "--url", server.url, "--episodes", "2", "--steps", "2", "--api-key", "a-good-key-1")
        assert done.returncode == 0, done.stderr
        done = metagame("bench", server.url, "--sockets", "2", "--steps", "2", "--api-key", "a-good-key-1")
        assert done.returncode == 0, done.stderr


def test_wrong_usage_exits_with_2() -> None:
    done = metagame("pool", "watch", "http://localhost:9", "--every", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--every" in done.stderr


@pytest.mark.parametrize(
    ("values", "bars"),
    [([], ""), ([0.0, 0.0], "▁▁"), ([1.0, 2.0, 4.0], "▃▅█"), ([8.0, 1.0, 8.0, 4.0], "▂█▅"), ([5.0], "█")],
)
def test_the_sparkline_ends_with_the_newest_and_reaches_to_the_highest_of_those_shown(
    values: list[float], bars: str
) -> None:
    assert sparkline(values, 3) == bars
