"""Where each count stands."""

from __future__ import annotations

import pytest

from metagame.errors import TABLE
from services.meter.layout import (
    CELLS,
    COMMITS,
    DURATIONS_NS,
    ERRORS,
    FAMILIES,
    GAUGES,
    OUTCOMES,
    REASONS,
    REQUESTS,
    Family,
)
from services.store.base import Word

MOST_SERIES = 1000


def test_no_two_counts_share_a_cell_and_none_is_left_over() -> None:
    taken = [cell for family in FAMILIES for cell in range(family.first, family.end)]
    assert taken == list(range(CELLS))


def test_counters_stand_before_gauges() -> None:
    assert {family.kind for family in FAMILIES if family.first < GAUGES} == {"counter", "histogram"}
    assert {family.kind for family in FAMILIES if family.first >= GAUGES} == {"gauge"}


def test_a_scrape_is_of_bounded_size() -> None:
    assert sum(family.width * len(family.series) for family in FAMILIES) < MOST_SERIES


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_are_as_prometheus_wants_them(family: Family) -> None:
    assert family.name.startswith("metagame_")
    assert not family.name.endswith("_total")
    assert family.help.endswith(".")
    assert all(len(values) == len(family.labels) for values in family.series)


def test_every_error_that_is_ever_sent_can_be_counted() -> None:
    for row in TABLE.values():
        assert (row.code, row.reason) in REASONS.series
        assert ("http", "step", row.code) in ERRORS.series


def test_every_word_for_a_commit_can_be_counted() -> None:
    others = {Word.MADE, Word.RENEWED, Word.FULL}
    assert {word.value for word in set(Word) - others} < set(OUTCOMES)


def test_an_unknown_label_is_refused() -> None:
    with pytest.raises(KeyError):
        COMMITS.at("step", "maybe")


def test_series_are_summed_by_the_labels_given() -> None:
    cells = [0] * CELLS
    cells[REQUESTS.at("http", "step") + 3] = 5
    cells[REQUESTS.at("websocket", "step")] = 2
    cells[REQUESTS.at("websocket", "reset") + len(DURATIONS_NS)] = 1
    assert REQUESTS.total(cells, operation="step") == 7
    assert REQUESTS.total(cells, surface="websocket") == 3
    assert REQUESTS.buckets(cells, operation="step")[:5] == [2, 0, 0, 5, 0]
    assert REQUESTS.buckets(cells)[-1] == 1
