"""The checker on journals made up for it: every kind of violation is found, and clean ones pass."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.checker import BALANCER_ANSWER_S, LATE_FOR_S, LONGEST_PAUSE_S, STORE_DEADLINE_S, check
from chaos.judge import READY, Final, Verdict, Violation
from chaos.pool import HAPROXY_CONFIGURATION
from chaos.schedule import LONGEST_LONG_PAUSE_S
from services.settings import Settings
from tests.chaos.journals import Story

FINAL = ("ours-ws", "ours-http", "stock-ws")
"""Kinds that may be in doubt, and are told a state that is final."""
FENCED = (*FINAL, "stock-http-key")


def judge(*stories: Story, final: Final | None = None) -> Verdict:
    finals = {story.session: story.final() if final is None else final for story in stories}
    return check([story.journal for story in stories], finals)


def only(verdict: Verdict) -> Violation:
    kinds = {(violation.kind, violation.text) for violation in verdict.violations}
    assert len(kinds) == 1, kinds
    return verdict.violations[0]


def started(kind: str = "stock-ws", session: str = "s1") -> Story:
    return Story(session, kind).reset("one").state()


@pytest.mark.parametrize("kind", [*FENCED, "stock-http"])
def test_a_clean_session_of_several_episodes_has_no_violation(kind: str) -> None:
    story = started(kind).steps(5).state().reset("two").steps(3).state().end()
    assert judge(story).violations == []


@pytest.mark.parametrize("counts", [True, False], ids=["counted", "not counted"])
def test_an_unknown_step_counts_once_or_not_at_all(*, counts: bool) -> None:
    verdict = judge(started().steps(2).unknown_step(counts=counts).steps(2).state().end())
    assert verdict.violations == []
    assert (verdict.counted, verdict.not_counted) == (int(counts), int(not counts))


@pytest.mark.parametrize("counts", [True, False], ids=["counted", "not counted"])
def test_an_unknown_reset_counts_once_or_not_at_all(*, counts: bool) -> None:
    assert judge(started().steps(2).unknown_reset("two", counts=counts).steps(2).state().end()).violations == []


def test_an_unknown_step_that_counted_twice_is_repeated() -> None:
    story = started().steps(2).unknown_step(counts=True, told=False)
    story.step += 1
    assert only(judge(story.state().end())).kind == "repeated"


def test_a_step_that_counts_after_state_said_it_did_not_is_repeated() -> None:
    story = started().steps(2).unknown_step(counts=False)
    story.step += 1
    assert only(judge(story.steps(1).end())).kind == "repeated"


def test_over_http_without_request_ids_it_may_count_late_but_once() -> None:
    late = started("stock-http").steps(2).unknown_step(counts=False)
    late.step += 1
    verdict = judge(late.steps(2).state().end())
    assert (verdict.violations, verdict.counted_late) == ([], 1)
    twice = started("stock-http").steps(2).unknown_step(counts=False)
    twice.step += 2
    assert only(judge(twice.steps(1).end())).kind == "repeated"


def test_over_http_it_may_count_as_late_as_after_the_last_answer() -> None:
    story = started("stock-http").steps(2).unknown_step(counts=False).end()
    story.step += 1
    assert judge(story, final=story.final(echo="s1.4")).violations == []
    assert only(judge(story, final=story.final(echo="s1.3"))).kind == "swapped"


def test_over_http_it_may_not_count_once_nobody_can_have_it_any_more() -> None:
    """In a later episode least of all."""
    for wait_s, kinds in ((LATE_FOR_S - 10, set()), (LATE_FOR_S, {"repeated"})):
        story = started("stock-http").steps(2).unknown_step(counts=False).reset("two").wait(wait_s).steps(1)
        story.step += 1
        assert {one.kind for one in judge(story.steps(1).end()).violations} == kinds


def test_over_http_an_older_call_may_be_the_one_that_counted() -> None:
    """The first in doubt counts late, and the second does too; the echo says so."""
    story = started("stock-http").steps(2).unknown_step(counts=False)
    story.unknown_step(counts=True, told=False)
    story.newest = "s1.4"
    story.state_in_doubt()
    story.step += 1
    assert judge(story.steps(1).end()).violations == []
    story.step += 1
    assert only(judge(story.steps(1).end())).kind == "repeated"


def test_how_late_a_call_may_count_covers_what_can_hold_it_up() -> None:
    balancer = re.search(r"presetenv BALANCER_ANSWER_TIMEOUT_S (\d+)", HAPROXY_CONFIGURATION.read_text())
    assert balancer is not None
    assert float(balancer[1]) == BALANCER_ANSWER_S
    assert Settings.model_fields["redis_timeout_s"].default == STORE_DEADLINE_S
    assert LONGEST_LONG_PAUSE_S < LONGEST_PAUSE_S


@pytest.mark.parametrize("kind", [*FENCED, "stock-http"])
def test_an_acknowledged_step_that_no_longer_counts_is_lost(kind: str) -> None:
    story = started(kind).steps(3)
    story.step -= 1
    violation = only(judge(story.steps(1).end()))
    assert (violation.kind, violation.step) == ("lost", 3)
    assert "where 4 is due" in violation.text


def test_a_gap_is_a_repeated_step() -> None:
    story = started().steps(3)
    story.step += 1
    assert only(judge(story.steps(1).end())).kind == "repeated"


def test_a_state_that_went_back_is_lost_and_one_ahead_repeated() -> None:
    assert judge(started().steps(3).state(step=2).end()).violations[0].kind == "lost"
    assert judge(started().steps(3).state(step=4).end()).violations[0].kind == "repeated"


def test_another_episode_in_state_is_swapped() -> None:
    kinds = {one.kind for one in judge(started().steps(3).state(episode="other").end()).violations}
    assert kinds == {"swapped"}


def test_a_session_that_no_longer_exists_is_lost() -> None:
    assert judge(started().steps(3).state(episode=None, step=0).end()).violations[0].kind == "lost"


def test_a_session_whose_first_reset_did_not_count_does_not_exist_yet() -> None:
    assert judge(Story().unknown_reset("one", counts=False).reset("two").steps(1).end()).violations == []


def test_another_sessions_echo_is_swapped_and_the_evidence_names_it() -> None:
    other = started(session="s2").steps(1).end()
    story = started().steps(1, echo="s2.2").end()
    swapped = [one for one in judge(story, other).violations if one.kind == "swapped"]
    assert any("session s2's call 2" in one.text for one in swapped)
    assert any("s1.jsonl:5" in line for line in swapped[0].lines)


def test_an_older_steps_echo_is_swapped() -> None:
    story = started().steps(1)
    older = story.newest
    assert judge(story.steps(1, echo=older).end()).violations[0].kind == "swapped"


@pytest.mark.parametrize(
    "wrong", [{"reward": 99.0}, {"length": 99}, {"done": True}], ids=lambda wrong: next(iter(wrong))
)
@pytest.mark.parametrize("verb", ["reset", "step"])
def test_a_wrong_answer_is_wrong(wrong: dict[str, object], verb: str) -> None:
    story = started().steps(1)
    story = story.reset("two", **wrong) if verb == "reset" else story.steps(1, **wrong)
    assert {one.kind for one in judge(story.end()).violations} == {"wrong"}


def test_a_reset_answered_with_a_message_is_swapped() -> None:
    assert "swapped" in {one.kind for one in judge(started().reset("two", echo="hello", length=5).end()).violations}


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"step": 2}, "lost"),
        ({"step": 4}, "repeated"),
        ({"episode": "other"}, "swapped"),
        ({"echo": "other"}, "swapped"),
        ({"echo": None}, "swapped"),
        ({"http_step": 2}, "lost"),
        ({"http_step": 4}, "repeated"),
        ({"http_episode": "other"}, "swapped"),
        ({"http_step": None}, "lost"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(f"{key}={item}" for key, item in value.items()),
)
def test_the_sessions_end_must_be_the_newest_acknowledged_answer(wrong: dict[str, object], kind: str) -> None:
    story = started().steps(3).state().end()
    assert only(judge(story, final=story.final(**wrong))).kind == kind


def test_a_session_without_a_record_is_lost() -> None:
    story = started().steps(3).end()
    assert only(judge(story, final=Final(None, "one", 3))).kind == "lost"


def test_a_call_unknown_to_the_end_leaves_both_ends_open() -> None:
    for counts in (True, False):
        story = started().steps(3).unknown_step(counts=counts, told=False).end()
        assert judge(story).violations == []
    story = started().steps(3).unknown_step(counts=False, told=False).end()
    story.step += 2
    assert "repeated" in {one.kind for one in judge(story).violations}


def test_a_session_given_up_after_an_unknown_reset_may_stand_in_either_episode() -> None:
    story = started("stock-http").steps(2).send_reset("two").note("unknown", call=4, why="cut").note("left")
    assert judge(story).violations == []
    begun = story.final(episode="two", step=0, echo=READY).stored
    assert judge(story, final=Final(begun, "two", 0)).violations == []
    not_begun = story.final(episode="two", step=0).stored
    assert only(judge(story, final=Final(not_begun, "two", 0))).kind == "swapped"
    assert judge(story, final=Final(story.final(episode="two", step=1).stored, "two", 1)).violations != []


def test_an_answered_step_whose_number_goes_to_the_call_in_doubt_is_lost() -> None:
    """A failover: step 3 is answered and lost, the next call counts as 3 and is not answered. The number fits."""
    story = started().steps(3)
    told = story.newest
    story.send_step()
    story.note("unknown", call=story.calls, why="cut").state(echo=f"s1.{story.calls}")
    verdict = judge(story.steps(1).end())
    violation = only(verdict)
    assert (violation.kind, violation.step) == ("lost", 3)
    assert repr(told) in violation.text
    assert any(f'"call": {story.calls - 1}' in line for line in violation.lines)


@pytest.mark.parametrize("counts", [True, False], ids=["counted", "not counted"])
@pytest.mark.parametrize("echo", ["s2.1", "s1.2", None], ids=["another session's", "an older step's", "none"])
def test_after_a_call_in_doubt_redis_keeps_the_answer_that_the_number_names(echo: str | None, *, counts: bool) -> None:
    story = started().steps(2).unknown_step(counts=counts, told=False).state_in_doubt(echo=echo)
    assert only(judge(story.steps(1).end())).kind == "swapped"


def test_where_redis_could_not_be_read_the_number_alone_is_judged() -> None:
    for counts in (True, False):
        story = started().steps(2).unknown_step(counts=counts, told=False).state(unread="it is away")
        assert judge(story.steps(1).end()).violations == []


def test_a_call_in_doubt_to_the_end_must_be_what_redis_keeps_where_it_counted() -> None:
    story = started().steps(3).unknown_step(counts=True, told=False).end()
    assert only(judge(story, final=story.final(echo="s1.4"))).kind == "swapped"
    assert only(judge(story, final=story.final(echo=None))).kind == "swapped"


def test_a_client_that_sends_again_with_its_key_is_never_in_doubt() -> None:
    assert only(judge(started("stock-http-key").unknown_step(counts=True).steps(1).end())).kind == "silent"
    late = started("stock-http-key").steps(2)
    late.step += 1
    assert only(judge(late.steps(1).end())).kind == "repeated"


def test_a_call_that_counted_without_an_answer_has_its_number() -> None:
    story = started("stock-http-key").steps(1)
    story.send_step()
    story.step += 1
    assert judge(story.note("committed", call=story.calls, step=2).steps(1).end()).violations == []
    story = started("stock-http-key").steps(1)
    story.send_step()
    story.step += 2
    assert only(judge(story.note("committed", call=story.calls, step=3).steps(1).end())).kind == "repeated"


def test_an_error_of_our_client_leaves_its_call_unknown() -> None:
    story = started("ours-ws").steps(2)
    story.send_step()
    story.note("error", call=story.calls, error="Unavailable", why="…").state()
    assert judge(story.steps(1).end()).violations == []


def test_silence_is_no_proof() -> None:
    assert only(judge(started().end())).kind == "silent"
    assert only(judge(started().steps(2))).kind == "silent"


def test_a_call_without_an_end_is_no_proof() -> None:
    story = started().steps(1)
    story.send_step()
    story.end()
    violation = only(judge(story))
    assert (violation.kind, "call 3 has no end" in violation.text) == ("silent", True)
    first, second = shared((1,), (2,))
    second.lines.pop()
    second.send_step()
    second.end()
    assert {one.kind for one in judge_shared([first, second], 2)} == {"silent"}


def test_a_run_without_a_step_is_no_proof() -> None:
    assert only(check([], {})).kind == "silent"
    left = Story("s1", "stock-http").send_reset("one").note("unknown", call=1, why="cut").note("left")
    assert only(judge(left)).kind == "silent"


def shared(*numbers: tuple[int, ...], session: str = "s1") -> list[Story]:
    stories = []
    for player, steps in enumerate(numbers):
        story = Story(session, "shared")
        story.calls = 1000 * player
        if player == 0:
            story.reset("one")
        for step in steps:
            story.step = step - 1
            story.steps(1)
        stories.append(story.end())
    return stories


def judge_shared(stories: list[Story], step: int, *, episode: str = "one", echo: str | None = None) -> list[Violation]:
    """The session stands at `step`; what Redis keeps is the answer to the highest step where not said."""
    answers = [line for story in stories for line in story.lines if line["what"] == "answer" and "step" in line]
    kept = max(answers, key=lambda line: line["step"])["echo"] if echo is None else echo
    final = Final(stories[0].final(episode=episode, step=step, echo=kept).stored, episode, step)
    return check([story.journal for story in stories], {"s1": final}).violations


def test_several_clients_of_a_session_share_its_numbers() -> None:
    assert judge_shared(shared((1, 3, 4), (2, 5)), 5) == []


@pytest.mark.parametrize(
    ("numbers", "step", "kind"),
    [
        (((1, 2), (2, 3)), 3, "lost"),
        (((1, 2), (3, 4)), 3, "lost"),
        (((1, 2), (4, 5)), 5, "repeated"),
        (((1, 2), (3, 4)), 6, "repeated"),
        (((1, 3, 2), (4,)), 4, "lost"),
    ],
    ids=["one number twice", "behind the answers", "a number nobody has", "ahead of the answers", "backwards"],
)
def test_a_shared_session_has_every_number_once(numbers: tuple[tuple[int, ...], ...], step: int, kind: str) -> None:
    assert kind in {one.kind for one in judge_shared(shared(*numbers), step)}


def test_a_shared_session_has_room_for_what_is_unknown() -> None:
    first, second = shared((1, 2), (4, 5))
    second.lines.pop()
    second.send_step()
    second.note("unknown", call=second.calls, why="cut").end()
    assert judge_shared([first, second], 5) == []
    assert "repeated" in {one.kind for one in judge_shared([first, second], 6)}
    first, second = shared((1, 2), (3, 4))
    second.lines.pop()
    second.send_step()
    second.note("unknown", call=second.calls, why="cut").end()
    assert judge_shared([first, second], 5, echo=f"s1.{second.calls}") == []
    assert {one.kind for one in judge_shared([first, second], 5)} == {"swapped"}


@pytest.mark.parametrize("echo", ["s1.2", "nobody's"], ids=["an older step's", "nobody's"])
def test_a_shared_session_keeps_its_newest_answer(echo: str) -> None:
    assert {one.kind for one in judge_shared(shared((1, 3), (2,)), 3, echo=echo)} == {"swapped"}


@pytest.mark.parametrize("episode", ["other", "older"])
def test_a_shared_session_stays_in_its_episode(episode: str) -> None:
    """It may not fall back into one that was begun and is over, either."""
    first, second = Story("s1", "shared").reset("older").reset("one"), Story("s1", "shared")
    second.calls, second.step = 1000, 1
    stories = [first.steps(1).end(), second.wait(9).steps(1).end()]
    assert judge_shared(stories, 2) == []
    assert {one.kind for one in judge_shared(stories, 2, episode=episode)} == {"swapped"}


def test_a_shared_session_may_be_in_an_episode_of_unknown_outcome() -> None:
    story = Story("s1", "shared").reset("one").steps(1).send_reset("two")
    story.note("unknown", call=story.calls, why="cut").end()
    for episode in ("one", "two"):
        assert judge_shared([story], 1, episode=episode) == []


DEEDS = st.sampled_from(["step", "state", "reset", "counted", "not counted", "reset counted", "reset not counted"])


def tell(deeds: list[str], kind: str = "stock-ws") -> Story:
    story = started(kind).steps(1)
    for number, deed in enumerate(deeds):
        match deed:
            case "step":
                story.steps(1)
            case "state":
                story.state()
            case "reset":
                story.reset(f"episode {number}")
            case "counted" | "not counted":
                story.unknown_step(counts=deed == "counted")
            case _:
                story.unknown_reset(f"episode {number}", counts=deed == "reset counted")
    return story


@given(st.lists(DEEDS, max_size=30), st.sampled_from([*FINAL, "stock-http"]))
def test_whatever_a_sound_server_does_is_clean(deeds: list[str], kind: str) -> None:
    assert judge(tell(deeds, kind).steps(1).state().end()).violations == []


def slip_back(story: Story) -> None:
    story.step -= 1


def slip_ahead(story: Story) -> None:
    story.step += 1


def slip_away(story: Story) -> None:
    story.episode = "another"


@given(
    st.lists(DEEDS, max_size=15),
    st.sampled_from([(slip_back, "lost"), (slip_ahead, "repeated"), (slip_away, "swapped")]),
    st.lists(st.sampled_from(["step", "state"]), max_size=5),
)
def test_wherever_a_server_slips_it_is_caught(
    before: list[str], slip: tuple[Callable[[Story], None], str], after: list[str]
) -> None:
    story = tell(before).steps(1)
    slip[0](story)
    for deed in after:
        story.steps(1) if deed == "step" else story.state()
    assert slip[1] in {one.kind for one in judge(story.state().end()).violations}
