"""What a step costs Redis and the network, counted and held: commands, round trips, bytes.

These are counts, not timings: they are the same on every machine, and whoever changes one changes its line here.
A count is exact; bytes may have up to SLACK more than measured, for a digit here and there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import uuid4

import pytest

from services.submission import LEASE_FRESH_S
from tests.cost.clients import Http, Socket
from tests.cost.meters import Commands, Meter, Monitor
from tests.cost.served import Worker

GET, SCRIPT = "GETEX", "EVALSHA"
COMMIT_INSIDE = ("GET", "SET")
COMMIT_AND_LEASE_INSIDE = ("GET", "TIME", "SET")
HTTP_COMMIT_INSIDE = ("GET", "SET")
MAKE = (SCRIPT, SCRIPT, SCRIPT)
"""Reserve a place, create the record, hold the place."""

ATTACHED: dict[str, tuple[str, ...]] = {
    "step": (SCRIPT,),
    "reset": (SCRIPT,),
    "state": (GET,),
}
OPENING: dict[str, tuple[str, ...]] = {
    "of a session that exists": (GET, SCRIPT),
    "of one that does not exist": (GET,),
    "without a name": MAKE,
}
FIRST_RESET = (GET, *MAKE)
HTTP_STEP = (GET, SCRIPT)

STEP_BYTES_IN, STEP_BYTES_OUT, STEP_BYTES_TO_CLIENT = 423, 19, 296
HTTP_STEP_BYTES_IN, HTTP_STEP_BYTES_OUT, HTTP_STEP_BYTES_TO_CLIENT = 492, 408, 419
SLACK = 1.02

SOCKETS_AT_ONCE = 32
READS_AT_ONCE = 4
"""A batch is one write of the worker, which Redis reads in pieces of 16 KiB."""
STEPS = 100


@pytest.fixture
def attached(served: Worker, path: str) -> Iterator[Socket]:
    """A socket on a session that has made a step."""
    with Socket(served.port, path) as socket:
        socket.reset()
        socket.step(1)
        yield socket


@pytest.fixture
def http(served: Worker) -> Iterator[Http]:
    """A connection to a session that has made a step."""
    with Http(served.port, uuid4().hex) as one:
        one.reset()
        one.step(1)
        yield one


def steps(client: Socket | Http) -> None:
    """STEPS more, one by one."""
    for number in range(2, STEPS + 2):
        client.step(number)


@pytest.mark.parametrize("verb", ATTACHED)
def test_what_a_socket_asks_is_this_many_commands(attached: Socket, monitor: Monitor, verb: str) -> None:
    asks: dict[str, Callable[[], None]] = {
        "step": lambda: attached.step(2),
        "reset": attached.reset,
        "state": attached.state,
    }
    assert monitor.of(asks[verb]).asked == ATTACHED[verb]


def test_a_script_that_commits_runs_these_commands(attached: Socket, http: Http, monitor: Monitor) -> None:
    assert monitor.of(lambda: attached.step(2)).inside == COMMIT_INSIDE
    assert monitor.of(lambda: http.step(2)).inside == HTTP_COMMIT_INSIDE


def test_a_step_after_a_rest_renews_the_lease_in_the_same_script(attached: Socket, monitor: Monitor) -> None:
    time.sleep(LEASE_FRESH_S + 0.1)
    rested = monitor.of(lambda: attached.step(2))
    assert (rested.asked, rested.inside) == ((SCRIPT,), COMMIT_AND_LEASE_INSIDE)
    assert monitor.of(lambda: attached.step(3)).inside == COMMIT_INSIDE


@pytest.mark.parametrize("kind", OPENING)
def test_a_socket_opens_with_this_many_commands(served: Worker, monitor: Monitor, path: str, kind: str) -> None:
    if kind == "of a session that exists":
        with Http(served.port, path.split("/")[2]) as http:
            http.reset()
    asked = "/ws" if kind == "without a name" else path
    with ExitStack() as opened:
        commands: Commands = monitor.of(lambda: opened.enter_context(Socket(served.port, asked)))
        assert commands.asked == OPENING[kind]


def test_a_first_reset_is_this_many_commands(served: Worker, monitor: Monitor, path: str) -> None:
    with Socket(served.port, path) as socket:
        assert monitor.of(socket.reset).asked == FIRST_RESET


def test_an_http_step_is_this_many_commands(http: Http, monitor: Monitor) -> None:
    assert monitor.of(lambda: http.step(2)).asked == HTTP_STEP


def test_a_step_on_a_socket_is_one_round_trip_of_few_bytes(attached: Socket, meter: Meter) -> None:
    had = attached.bytes_received
    traffic = meter.of(lambda: steps(attached))
    assert traffic.reads == STEPS
    assert traffic.bytes_in / STEPS <= STEP_BYTES_IN * SLACK
    assert traffic.bytes_out / STEPS <= STEP_BYTES_OUT * SLACK
    assert (attached.bytes_received - had) / STEPS <= STEP_BYTES_TO_CLIENT * SLACK


def test_an_http_step_is_two_round_trips_of_few_bytes(http: Http, meter: Meter) -> None:
    had = http.bytes_received
    traffic = meter.of(lambda: steps(http))
    assert traffic.reads == 2 * STEPS
    assert traffic.bytes_in / STEPS <= HTTP_STEP_BYTES_IN * SLACK
    assert traffic.bytes_out / STEPS <= HTTP_STEP_BYTES_OUT * SLACK
    assert (http.bytes_received - had) / STEPS <= HTTP_STEP_BYTES_TO_CLIENT * SLACK


def test_sockets_that_step_at_once_share_round_trips(served: Worker, meter: Meter) -> None:
    with ExitStack() as opened:
        sockets = [
            opened.enter_context(Socket(served.port, f"/sessions/{uuid4().hex}/ws")) for _ in range(SOCKETS_AT_ONCE)
        ]
        for socket in sockets:
            socket.reset()

        def step_at_once() -> None:
            with served.standing_still():
                for socket in sockets:
                    socket.send_step()
            for socket in sockets:
                socket.expect_step(1)

        traffic = meter.of(step_at_once)
    assert traffic.reads <= READS_AT_ONCE
