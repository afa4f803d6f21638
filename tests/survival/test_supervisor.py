"""Several workers under one supervisor: a worker's death is told, and the supervisor's own leaves none behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.logs.lines import Line, lines
from tests.logs.lines import until as told
from tests.redis_servers import RedisServer
from tests.servers import Server, run_server
from tests.survival.test_serving import children_of
from tests.wire.sockets import WAIT_S, ask, open_socket

DRAIN_S = 8.0
RESET: dict[str, Any] = {"type": "reset", "data": {"episode_id": "e"}}
STEP: dict[str, Any] = {"type": "step", "data": {"message": "one"}}


def until(holds: Callable[[], Any], what: str, within_s: float = WAIT_S) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.02)
    return found


@contextmanager
def supervised(redis: RedisServer, **env: str) -> Iterator[tuple[Server, dict[int, Line]]]:
    """A supervisor with two workers that are up, by their pids; all gone with the block, however it ends."""
    env = {"METAGAME_REDIS_URL": redis.url, "METAGAME_WORKERS": "2", "METAGAME_DRAIN_TIMEOUT_S": str(DRAIN_S), **env}
    with run_server(**env) as server, ExitStack() as stack:
        stack.callback(lambda: kill(*started(server)))
        stack.callback(server.kill)
        yield server, until(lambda: len(found := started(server)) == 2 and found, "two workers")


def started(server: Server) -> dict[int, Line]:
    return {line["pid"]: line for line in lines(server) if line["event"] == "worker started"}


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def deaths(server: Server) -> list[Line]:
    return [line for line in lines(server) if line["event"] == "worker died"]


def test_a_workers_death_is_told_once_and_another_takes_its_place(redis_at: RedisServer) -> None:
    with supervised(redis_at) as (server, _):
        for number in (signal.SIGKILL, signal.SIGSEGV):
            victim = min(children_of(server.process.pid))
            os.kill(victim, number)
            died = told(server, "worker died", pid=victim)
            assert (died["level"], died["worker"], died["signal"]) == ("warning", "supervisor", number.name)
            assert "exit_code" not in died
            until(lambda: len(children_of(server.process.pid) & started(server).keys()) == 2, "its successor")
        assert len(deaths(server)) == 2
        assert server.terminate() == 0
        assert len(deaths(server)) == 2, "who leaves when asked has not died"


def test_how_a_worker_left_is_told_though_its_supervisor_asked_none(redis_at: RedisServer) -> None:
    with supervised(redis_at, METAGAME_DRAIN_TIMEOUT_S="1") as (server, workers):
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port)) as wire:
            wire.sendall(b"POST /reset HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
            for pid in workers:  # the one that waits for the rest goes at its deadline, by itself
                os.kill(pid, signal.SIGTERM)
            until(lambda: len(deaths(server)) == 2, "both ends")
        assert sorted(str(line.get("signal", line.get("exit_code"))) for line in deaths(server)) == ["0", "SIGTERM"]


def test_a_worker_that_gives_no_sign_of_life_is_told_from_one_that_was_killed(redis_at: RedisServer) -> None:
    with supervised(redis_at) as (server, workers):
        os.kill(min(workers), signal.SIGSTOP)
        died = told(server, "worker died", pid=min(workers))
        assert (died["signal"], died["reason"]) == ("SIGKILL", "it gave no sign of life")


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_killed_supervisor_takes_its_workers_along_as_if_they_were_asked_to_leave(
    redis_at: RedisServer, log_format: str
) -> None:
    with run_supervised_in(redis_at, log_format) as (server, workers), ExitStack() as stack:
        sockets = []
        for number in range(8):
            one = stack.enter_context(open_socket(server.ws_url, f"/sessions/s-{number}/ws"))
            assert ask(one, RESET)["type"] == ask(one, STEP)["type"] == "observation"
            sockets.append(one)
        began = time.monotonic()
        server.kill()
        for one in sockets:
            with pytest.raises(ConnectionClosed):
                one.recv(timeout=WAIT_S)
            assert one.close_code == 1012
        until(lambda: not any(map(runs, workers)), "their end", DRAIN_S)
        assert time.monotonic() - began < DRAIN_S
        assert log_format != "json" or [line["event"] for line in lines(server)].count("worker leaves") == 2
        with socket.create_server(("127.0.0.1", urlsplit(server.url).port or 0)):
            pass  # nobody holds the port
    with run_server(METAGAME_REDIS_URL=redis_at.url) as next_one:
        for number in range(8):
            state = httpx.get(f"{next_one.url}/sessions/s-{number}/state", trust_env=False).json()
            assert (state["episode_id"], state["step_count"]) == ("e", 1)


@contextmanager
def run_supervised_in(redis: RedisServer, log_format: str) -> Iterator[tuple[Server, set[int]]]:
    """The same, whatever its log looks like."""
    if log_format == "json":
        with supervised(redis) as (server, by_pid):
            yield server, set(by_pid)
        return
    env = {"METAGAME_REDIS_URL": redis.url, "METAGAME_WORKERS": "2", "METAGAME_LOG_FORMAT": log_format}
    with run_server(METAGAME_DRAIN_TIMEOUT_S=str(DRAIN_S), **env) as server, ExitStack() as stack:
        until(lambda: server.log.count("worker started") == 2, "two workers")
        children = children_of(server.process.pid)
        stack.callback(kill, *children)
        yield server, children


def test_a_worker_whose_supervisor_dies_while_it_starts_does_not_stay(redis_at: RedisServer) -> None:
    with supervised(redis_at) as (server, workers):
        os.kill(min(workers), signal.SIGKILL)
        successor = until(lambda: children_of(server.process.pid) - workers.keys(), "its successor").pop()
        assert successor not in started(server)
        server.kill()
        until(lambda: not runs(successor) and not any(map(runs, workers)), "their end", DRAIN_S + WAIT_S)
