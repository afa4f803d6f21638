"""Which calls a fault hit, and how long calls paused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from chaos.hits import SLACK_S, Call, Strike, calls_of, impacts, pauses, pauses_under_fault, waited_s
from chaos.journal import Journal, parse

USUAL = [Call("usual", number, "step", number * 0.1, number * 0.1 + 0.01, answered=True) for number in range(50)]
KILL = Strike("kill", "w1", 10.0, 12.0, (10.0,))


def call(sent_s: float, ended_s: float, *failures_s: float, answered: bool = True) -> Call:
    return Call("j", 1, "step", sent_s, ended_s, answered, list(failures_s))


def hits(one: Call, *strikes: Strike) -> list[int]:
    return [len(impact.hit) for impact in impacts([*USUAL, one], strikes)]


@pytest.mark.parametrize(
    ("one", "hit"),
    [
        (call(9.99, 10.2, 10.01), 1),
        (call(9.99, 10.2), 1),
        (call(9.99, 10.2, 10.2, answered=False), 1),
        (call(9.99, 10.02), 0),
        (call(10.01, 10.2, 10.1), 0),
        (call(9.9, 9.95, 9.92), 0),
        (call(9.9, 10.01, 9.95), 0),
        (call(9.99, 12 + SLACK_S + 5), 0),
        (call(9.99, math.inf, answered=False), 0),
    ],
    ids=[
        "sent again",
        "waited",
        "failed",
        "answered as usual",
        "sent later",
        "over before",
        "failed before",
        "held up by something else",
        "never ended",
    ],
)
def test_a_hit_was_in_flight_and_suffered_from_it(one: Call, hit: int) -> None:
    assert hits(one, KILL) == [hit]


def test_what_one_fault_holds_up_is_not_the_next_ones() -> None:
    pause = Strike("pause", "w1", 9.0, 13.0, (9.0,))
    assert hits(call(8.99, 13.1), pause, KILL) == [1, 0]
    assert hits(call(8.99, 13.1), KILL, pause) == [0, 1]


def test_what_waited_already_when_a_fault_struck_is_not_its_hit() -> None:
    """Sent to a worker that sleeps, after it fell asleep, and answered when it woke: by then a worker was killed."""
    pause = Strike("pause", "w2", 5.0, 11.0, (5.0,))
    assert hits(call(9.5, 11.0), pause, KILL) == [0, 0]
    assert hits(call(9.5, 11.0, 10.5), pause, KILL) == [0, 0]
    assert hits(call(9.96, 11.0), pause, KILL) == [0, 1]


def test_each_instant_of_a_fault_counts() -> None:
    roll = Strike("roll", "w1,w2", 10.0, 14.0, (10.0, 13.0))
    assert hits(call(12.99, 13.3, 13.01), roll) == [1]
    assert hits(call(11.0, 11.3, 11.1), roll) == [0]


def test_a_fault_of_unknown_instants_hits_what_failed_meanwhile() -> None:
    roll = Strike("roll", "w1", 10.0, 14.0, ())
    assert hits(call(11.0, 11.3, 11.1), roll) == [1]
    assert hits(call(11.0, 11.3), roll) == [0]
    assert hits(call(14.5, 15.0, 14.6), roll) == [0]


def test_to_wait_is_to_take_several_times_as_long_as_usual() -> None:
    slow = [Call("slow", number, "step", number * 1.0, number * 1.0 + 0.1, answered=True) for number in range(8)]
    assert waited_s(USUAL, [KILL]) == pytest.approx(0.05)
    assert waited_s(slow, [KILL]) == pytest.approx(0.4)


def test_pauses_are_of_answered_calls() -> None:
    calls = [call(0, number / 100) for number in range(1, 101)] + [call(0, 50, answered=False)]
    found = pauses(calls)
    assert (found.calls, found.p50_s, found.p99_s, found.worst_s) == (100, 0.51, 1.0, 1.0)
    assert pauses([]).calls == 0


def test_calls_under_fault_overlap_it() -> None:
    calls = [call(9, 9.5), call(9.9, 10.5), call(11, 11.1), call(11.9, 14), call(12.5, 13)]
    assert pauses_under_fault(calls, [KILL]).calls == 3


def journal(*lines: dict[str, Any]) -> Journal:
    written: list[dict[str, Any]] = [{"what": "client", "session": "s", "kind": "ours-ws"}, *lines]
    return parse("j", "".join(json.dumps({"at_s": at, **line}) + "\n" for at, line in enumerate(written)))


def test_calls_are_read_from_journals() -> None:
    answered, failed, cut_off = calls_of(
        [
            journal(
                {"what": "send", "call": 1, "verb": "step", "message": "a"},
                {"what": "lost", "call": 1, "why": ""},
                {"what": "answer", "call": 1},
                {"what": "send", "call": 2, "verb": "reset", "episode": "a"},
                {"what": "unknown", "call": 2, "why": ""},
                {"what": "error", "error": "of a state", "why": ""},
                {"what": "send", "call": 3, "verb": "step", "message": "a"},
            )
        ]
    )
    assert (answered.sent_s, answered.ended_s, answered.answered, answered.failures_s) == (1, 3, True, [2])
    assert (failed.verb, failed.ended_s, failed.answered, failed.failures_s) == ("reset", 5, False, [5])
    assert (cut_off.ended_s, cut_off.answered) == (math.inf, False)


def test_a_line_cut_off_in_writing_is_left_out() -> None:
    text = '{"at_s": 0, "what": "client", "session": "s", "kind": "ours-ws"}\n{"at_s": 1, "wha'
    assert [entry.what for entry in parse("j", text).entries] == ["client"]
