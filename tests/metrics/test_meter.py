"""One worker's counts."""

from __future__ import annotations

import re
from time import monotonic_ns

import pytest
from starlette.exceptions import HTTPException

from metagame.errors import MetaGameError, NoEpisode, ProtocolError, Unavailable
from services.meter import Meter
from services.meter.layout import (
    ATTACHED,
    COMMITS,
    CPU,
    DRAINING,
    DURATIONS_NS,
    ERRORS,
    REASONS,
    REQUESTS,
    RESIDENT_BYTES,
    SUM,
)

STEP = REQUESTS.at("http", "step")


def test_two_meters_do_not_mix() -> None:
    one, other = Meter(), Meter()
    one.count(COMMITS, "step", "committed")
    assert COMMITS.total(one.cells) == 1
    assert COMMITS.total(other.cells) == 0
    assert one.worker_id != other.worker_id
    assert re.fullmatch("[0-9a-f]{8}", one.worker_id)


def test_a_gauge_goes_up_and_down_and_can_be_set() -> None:
    meter = Meter()
    meter.count(ATTACHED, "named", by=3)
    meter.count(ATTACHED, "named", by=-2)
    meter.set(DRAINING, 1)
    meter.set(DRAINING, 1)
    assert (ATTACHED.total(meter.cells), DRAINING.total(meter.cells)) == (1, 1)


@pytest.mark.parametrize("bound", range(len(DURATIONS_NS)))
def test_a_bucket_takes_what_is_not_above_its_bound(bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.meter.meter.monotonic_ns", lambda: DURATIONS_NS[-1] * 2)
    meter = Meter()
    for above in (0, 1):
        meter.took(STEP, DURATIONS_NS[-1] * 2 - DURATIONS_NS[bound] - above)
    assert list(meter.cells[STEP + bound : STEP + bound + 2]) == [1, 1]
    assert meter.cells[STEP + SUM] == 2 * DURATIONS_NS[bound] + 1


def test_a_request_is_counted_under_what_it_turned_out_to_be() -> None:
    meter, began_ns = Meter(), monotonic_ns() - DURATIONS_NS[-1] - 1
    with meter.timed("websocket", "unreadable", began_ns) as timed:
        timed.operation = "reset"
    assert REQUESTS.total(meter.cells) == REQUESTS.total(meter.cells, operation="reset") == 1
    assert REQUESTS.buckets(meter.cells)[-1] == 1
    assert ERRORS.total(meter.cells) == 0


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (NoEpisode("reset first"), "SESSION_ERROR", "no_episode"),
        (Unavailable("away", retryable=True), "SESSION_ERROR", "unavailable"),
        (ZeroDivisionError(), "INTERNAL_SERVER_ERROR", "bug"),
        (ProtocolError("no server sends this"), "INTERNAL_SERVER_ERROR", "bug"),
    ],
)
def test_an_error_is_counted_by_its_code_and_by_its_reason(error: Exception, code: str, reason: str) -> None:
    meter = Meter()
    with pytest.raises(type(error)), meter.timed("mcp", "tools/call"):
        raise error
    assert REQUESTS.total(meter.cells, surface="mcp", operation="tools/call") == 1
    assert ERRORS.total(meter.cells, surface="mcp", operation="tools/call", code=code) == ERRORS.total(meter.cells) == 1
    assert REASONS.total(meter.cells, code=code, reason=reason) == REASONS.total(meter.cells) == 1


def test_an_error_of_a_kind_that_has_no_row_counts_as_its_parent_does() -> None:
    class Special(NoEpisode):
        """A game's own."""

    meter = Meter()
    meter.failed("http", "step", Special("reset first"))
    assert REASONS.total(meter.cells, reason="no_episode") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), HTTPException(406)])
def test_what_is_no_answer_of_an_operation_is_no_error_of_one(error: BaseException) -> None:
    meter = Meter()
    with pytest.raises(type(error)), meter.timed("mcp", "other"):
        raise error
    assert REQUESTS.total(meter.cells) == 1
    assert ERRORS.total(meter.cells) == 0


def test_what_the_process_has_used_is_set_and_not_added() -> None:
    meter = Meter()
    meter.look_at_process()
    first = CPU.total(meter.cells)
    meter.look_at_process()
    assert 0 < first <= CPU.total(meter.cells) < 2 * first
    assert RESIDENT_BYTES.total(meter.cells) > 1_000_000


def test_alone_a_worker_answers_for_itself() -> None:
    meter = Meter()
    meter.count(COMMITS, "reset", "committed")
    totals = meter.totals()
    assert totals.living == 1
    assert COMMITS.total(totals.cells) == 1


def test_errors_have_a_base() -> None:
    """The meter counts what has a row in the table; this one has none, and is never raised as itself."""
    meter = Meter()
    meter.failed("http", "step", MetaGameError("never"))
    assert REASONS.total(meter.cells, reason="bug") == 1
