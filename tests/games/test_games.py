import copy
import random
import subprocess
import sys
from pathlib import Path

import pytest

from metagame.errors import InvalidAction
from metagame.games import Documented, Game
from metagame.games.echo import EchoGame
from metagame.wire.requests import ResetRequest, StepRequest
from services.engine import Engine
from services.store.memory import MemoryStore
from tests.games.pig import PigAction, PigGame
from tests.games.play import PLAYS, Play

ROOT = Path(__file__).resolve().parents[2]
each_game = pytest.mark.parametrize("play", PLAYS.values(), ids=PLAYS)


def engine_of(game: Game, store: MemoryStore) -> Engine:
    return Engine(game, store, max_sessions=100, timeout_s=5.0)


def a_store() -> MemoryStore:
    return MemoryStore(max_sessions=100, ttl_ms=60_000)


def test_the_echo_module_checks_itself_and_says_what_it_checked() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "metagame.games.echo"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "echo: every rule holds"
    assert any(line.startswith("refused") for line in lines)
    assert "step 1   'Hello, World!': length 13, reward 1.3" in lines


def test_echo_is_documented_by_the_readme() -> None:
    echo: Documented = EchoGame()
    assert echo.readme == (ROOT / "README.md").read_text()


@each_game
def test_the_same_seed_gives_the_same_episode(play: Play) -> None:
    assert play.model().episode() == play.model().episode()


@each_game
def test_a_game_never_changes_the_state_it_was_handed(play: Play) -> None:
    game = play.make()
    state, _ = game.reset(play.seed, play.options)
    for given in play.actions:
        before = copy.deepcopy(state)
        after, _ = game.step(state, game.action_type.model_validate(given))
        assert state == before
        state = after


@each_game
def test_a_game_never_touches_the_global_random_state(play: Play) -> None:
    before = random.getstate()
    play.model().episode()
    assert random.getstate() == before


@pytest.mark.anyio
@each_game
async def test_the_engine_never_touches_the_global_random_state(play: Play) -> None:
    before = random.getstate()
    engine = engine_of(play.make(), a_store())
    await engine.reset("s", ResetRequest(options=dict(play.options)))
    await engine.step("s", StepRequest(play.actions[0], request_id="r"))
    await engine.make(None)
    assert random.getstate() == before


@pytest.mark.anyio
@each_game
async def test_two_workers_on_one_store_play_the_episode_that_the_rules_say(play: Play) -> None:
    store = a_store()
    workers = [engine_of(play.make(), store) for _ in range(2)]
    asked = ResetRequest(seed=play.seed, options=dict(play.options))
    seen = [await workers[1].reset("s", asked)]
    for turn, action in enumerate(play.actions):
        seen.append(await workers[turn % 2].step("s", StepRequest(action)))
    assert seen == play.model().episode()
    assert (await workers[0].state("s")).step_count == len(play.actions)


def test_another_seed_gives_another_episode_of_pig() -> None:
    game = PigGame()
    rolled = set()
    for seed in range(20):
        state, _ = game.reset(seed, {})
        _, seen = game.step(state, PigAction(move="roll", dice=2))
        rolled.add(tuple(seen.fields["rolled"]))
    assert len(rolled) > 5


def test_pig_ends_at_its_target_and_refuses_to_hold_nothing() -> None:
    game = PigGame()
    state, ready = game.reset(3, {"target": 1})
    assert not ready.done
    with pytest.raises(InvalidAction):
        game.step(state, PigAction(move="hold"))
    seen = ready
    while seen.fields["turn"] == 0:
        state, seen = game.step(state, PigAction(move="roll"))
    state, seen = game.step(state, PigAction(move="hold"))
    assert seen.done
    assert seen.reward == seen.fields["banked"] / 4 > 0


@pytest.mark.parametrize("target", [0, -1, "many", None])
def test_pig_refuses_options_that_its_rules_do_not_take(target: object) -> None:
    with pytest.raises(InvalidAction):
        PigGame().reset(1, {"target": target})


@pytest.mark.parametrize("limit", [1, 5])
def test_echo_takes_messages_up_to_its_limit_in_code_points(limit: int) -> None:
    action_type = EchoGame(limit).action_type
    action_type.model_validate({"message": "😀" * limit})
    with pytest.raises(ValueError, match="at most"):
        action_type.model_validate({"message": "😀" * (limit + 1)})
