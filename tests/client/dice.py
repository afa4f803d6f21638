"""A second game: seeded dice, a state that is more than a counter, an end."""

import random
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from metagame import AsyncGameEnv, GameEnv
from metagame.errors import InvalidAction
from metagame.games import Observation, State


class Bet(BaseModel):
    model_config = ConfigDict(extra="forbid")
    on: int


class Throw(BaseModel):
    seen: list[int]
    reward: float | None = None
    done: bool = False


class DiceGame:
    name = "dice"
    description = "Bet on a die three times."
    version = "1"
    action_type: type[BaseModel] = Bet
    observation_type: type[BaseModel] = Throw

    def reset(self, seed: int, options: Mapping[str, Any]) -> tuple[State, Observation]:
        sides = options.get("sides", 6)
        if not isinstance(sides, int) or sides < 2:
            message = "sides is an integer from 2"
            raise InvalidAction(message, errors=[])
        return {"seed": seed, "sides": sides, "seen": []}, Observation({"seen": []})

    def step(self, state: State, action: BaseModel) -> tuple[State, Observation]:
        assert isinstance(action, Bet)
        if action.on == 13:
            message = "the thirteenth side"
            raise RuntimeError(message)
        seen: list[int] = state["seen"]
        rolled = random.Random(f"{state['seed']}/{len(seen)}").randint(1, state["sides"])
        after = {**state, "seen": [*seen, rolled]}
        reward = 1.0 if rolled == action.on else 0.0
        return after, Observation({"seen": after["seen"]}, reward=reward, done=len(after["seen"]) == 3)


class AsyncDiceEnv(AsyncGameEnv[Bet, Throw]):
    action_type = Bet
    observation_type = Throw


class DiceEnv(GameEnv[Bet, Throw]):
    action_type = Bet
    observation_type = Throw
