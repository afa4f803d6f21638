import copy

import pytest

from metagame.core.session import (
    EMPTY,
    LEGAL,
    Command,
    Expect,
    Kind,
    Phase,
    Reset,
    Snapshot,
    Step,
    check_expected,
    check_legal,
    check_session_id,
    decide,
    phase_of,
)
from metagame.errors import (
    EpisodeOver,
    InvalidAction,
    InvalidSessionId,
    MetaGameError,
    NoEpisode,
    SessionLost,
    SessionMoved,
)
from metagame.games.echo import EchoGame
from metagame.models import MetaGameAction
from tests.games.pig import PigAction, PigGame

RUNNING = Snapshot("e", 3, done=False, state=3)
DONE = Snapshot("e", 3, done=True, state=3)
SNAPSHOTS: dict[Phase, Snapshot | None] = {
    Phase.ABSENT: None,
    Phase.READY: EMPTY,
    Phase.RUNNING: RUNNING,
    Phase.DONE: DONE,
}
EXPECTED: dict[tuple[Phase, Kind], type[MetaGameError] | None] = {
    (Phase.ABSENT, Kind.RESET): None,
    (Phase.READY, Kind.RESET): None,
    (Phase.RUNNING, Kind.RESET): None,
    (Phase.DONE, Kind.RESET): None,
    (Phase.ABSENT, Kind.STEP): SessionLost,
    (Phase.READY, Kind.STEP): NoEpisode,
    (Phase.RUNNING, Kind.STEP): None,
    (Phase.DONE, Kind.STEP): EpisodeOver,
    (Phase.ABSENT, Kind.STATE): SessionLost,
    (Phase.READY, Kind.STATE): None,
    (Phase.RUNNING, Kind.STATE): None,
    (Phase.DONE, Kind.STATE): None,
}
pairs = pytest.mark.parametrize(
    ("phase", "kind"),
    [(phase, kind) for phase in Phase for kind in Kind],
    ids=lambda value: value.value,
)


def command(kind: Kind, expect: Expect | None = None) -> Command:
    if kind is Kind.RESET:
        return Reset("new", 1, {}, expect)
    return Step(MetaGameAction(message="one"), expect)


def test_the_table_has_a_row_for_every_phase_and_command() -> None:
    assert set(LEGAL) == {(phase, kind) for phase in Phase for kind in Kind} == set(EXPECTED)


@pytest.mark.parametrize(("phase", "snapshot"), list(SNAPSHOTS.items())[1:])
def test_a_snapshot_knows_its_phase(phase: Phase, snapshot: Snapshot) -> None:
    assert phase_of(snapshot) is phase


@pairs
def test_every_phase_takes_or_refuses_every_command_as_the_table_says(phase: Phase, kind: Kind) -> None:
    refusal = EXPECTED[phase, kind]
    if refusal is None:
        check_legal(SNAPSHOTS[phase], kind)
        return
    with pytest.raises(refusal, match="reset") as refused:
        check_legal(SNAPSHOTS[phase], kind)
    assert type(refused.value) is refusal


@pairs
def test_decide_keeps_to_the_table(phase: Phase, kind: Kind) -> None:
    if kind is Kind.STATE:
        return
    refusal = EXPECTED[phase, kind]
    if refusal is None:
        snapshot, _ = decide(EchoGame(), SNAPSHOTS[phase], command(kind))
        assert phase_of(snapshot) is Phase.RUNNING
    else:
        with pytest.raises(refusal):
            decide(EchoGame(), SNAPSHOTS[phase], command(kind))


def test_a_reset_starts_the_named_episode_at_step_0() -> None:
    snapshot, seen = decide(EchoGame(), RUNNING, command(Kind.RESET))
    assert snapshot == Snapshot("new", 0, done=False, state=0)
    assert (seen.reward, seen.done, seen.metadata) == (0.0, False, {})
    assert seen.fields == {"echoed_message": "Meta Game environment ready!", "message_length": 0}


def test_a_step_raises_the_step_count_by_one_and_keeps_the_episode() -> None:
    snapshot, seen = decide(EchoGame(), RUNNING, command(Kind.STEP))
    assert (snapshot.episode_id, snapshot.step_count) == ("e", 4)
    assert (seen.reward, seen.metadata) == (0.3, {"original_message": "one", "step": 4})


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.STEP])
@pytest.mark.parametrize("expect", [Expect("other", 3), Expect("e", 2), Expect("e", 4), Expect(None, 0)])
def test_a_command_that_expects_another_place_is_refused_with_the_place(kind: Kind, expect: Expect) -> None:
    with pytest.raises(SessionMoved) as moved:
        decide(EchoGame(), RUNNING, command(kind, expect))
    assert moved.value.fields == {"episode_id": "e", "step_count": 3}


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.STEP])
def test_a_command_that_expects_the_right_place_is_carried_out(kind: Kind) -> None:
    snapshot, _ = decide(EchoGame(), RUNNING, command(kind, Expect("e", 3)))
    assert snapshot.step_count == (4 if kind is Kind.STEP else 0)


@pytest.mark.parametrize("snapshot", [None, EMPTY])
def test_no_episode_is_expected_by_null_and_zero(snapshot: Snapshot | None) -> None:
    check_expected(snapshot, Expect(None, 0))
    decide(EchoGame(), snapshot, command(Kind.RESET, Expect(None, 0)))
    with pytest.raises(SessionMoved) as moved:
        decide(EchoGame(), snapshot, command(Kind.RESET, Expect("e", 0)))
    assert moved.value.fields == {"episode_id": None, "step_count": 0}


def test_a_step_of_a_lost_session_is_called_lost_also_where_a_place_was_expected() -> None:
    with pytest.raises(SessionLost):
        decide(EchoGame(), None, command(Kind.STEP, Expect("e", 3)))


def test_a_step_over_the_end_that_expects_the_end_is_refused_as_over() -> None:
    with pytest.raises(EpisodeOver):
        decide(EchoGame(), DONE, command(Kind.STEP, Expect("e", 3)))


def test_begin_starts_an_episode_only_where_none_ever_ran() -> None:
    begin = Reset("begun", 1, {})
    step = Step(MetaGameAction(message="one"), begin=begin)
    snapshot, seen = decide(EchoGame(), EMPTY, step)
    assert (snapshot.episode_id, snapshot.step_count) == ("begun", 1)
    assert seen.metadata["step"] == 1
    assert decide(EchoGame(), RUNNING, step)[0].episode_id == "e"
    with pytest.raises(SessionLost):
        decide(EchoGame(), None, step)
    with pytest.raises(EpisodeOver):
        decide(EchoGame(), DONE, step)


def test_an_end_of_the_game_ends_the_episode_until_the_next_reset() -> None:
    game = PigGame()
    snapshot, seen = decide(game, None, Reset("e", 3, {"target": 1}))
    while not seen.done:
        move = "hold" if seen.fields["turn"] else "roll"
        snapshot, seen = decide(game, snapshot, Step(PigAction.model_validate({"move": move})))
    assert phase_of(snapshot) is Phase.DONE
    with pytest.raises(EpisodeOver):
        decide(game, snapshot, Step(PigAction(move="roll")))
    assert phase_of(decide(game, snapshot, Reset("f", 3, {}))[0]) is Phase.RUNNING


def test_what_the_game_refuses_changes_nothing() -> None:
    game = PigGame()
    snapshot, _ = decide(game, None, Reset("e", 3, {}))
    before = copy.deepcopy(snapshot)
    with pytest.raises(InvalidAction):
        decide(game, snapshot, Step(PigAction(move="hold")))
    assert snapshot == before


def test_deciding_twice_decides_the_same_and_changes_nothing_it_was_given() -> None:
    game = PigGame()
    start, _ = decide(game, None, Reset("e", 5, {}))
    step = Step(PigAction(move="roll", dice=2))
    before = copy.deepcopy(start)
    assert decide(game, start, step) == decide(game, start, step)
    assert start == before


@pytest.mark.parametrize("good", ["a", "A-Z.a_z-0", "." * 128, "-", "0" * 128])
def test_session_ids_of_the_allowed_characters_pass(good: str) -> None:
    assert check_session_id(good) == good


@pytest.mark.parametrize("bad", ["", "a" * 129, "a b", "a\n", "é", "a/b", "a\0", "٣", "{a}"])
def test_other_session_ids_are_refused(bad: str) -> None:
    with pytest.raises(InvalidSessionId):
        check_session_id(bad)
