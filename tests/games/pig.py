"""A dice game for the tests: seeded, with options, an end, and moves that some states refuse.

Each turn the player rolls one or two dice as often as it dares and then holds: what the turn
gathered is banked and is the reward. A one loses the turn. The game is over at the target.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from metagame.errors import InvalidAction
from metagame.games import Observation, State

TARGET = 20


class PigAction(BaseModel):
    """Roll some dice, or hold."""

    model_config = ConfigDict(extra="forbid")

    move: Literal["roll", "hold"]
    dice: int = Field(default=1, ge=1, le=2)


class PigObservation(BaseModel):
    """The dice last rolled, what the turn gathered, and what is banked."""

    model_config = ConfigDict(extra="forbid")

    rolled: list[int] = []
    turn: int = 0
    banked: int = 0


class PigGame:
    """Pig. The reset's option `target` says where it ends."""

    name = "pig"
    description = "Roll dice and bank them before a one comes."
    version = "2.1.0"
    action_type: type[BaseModel] = PigAction
    observation_type: type[BaseModel] = PigObservation

    def reset(self, seed: int, options: Mapping[str, Any]) -> tuple[State, Observation]:
        """Nothing banked, nothing rolled."""
        target = options.get("target", TARGET)
        if not isinstance(target, int) or target < 1:
            message = "Invalid option: target is an integer above 0"
            raise InvalidAction(message, errors=[{"type": "target", "loc": ["target"], "msg": "not above 0"}])
        state = {"seed": seed, "target": target, "turn": 0, "banked": 0, "rolls": []}
        return state, _observed(state, [], 0.0)

    def step(self, state: State, action: BaseModel) -> tuple[State, Observation]:
        """Roll or hold."""
        assert isinstance(action, PigAction)
        return _rolled(state, action.dice) if action.move == "roll" else _held(state)


def _rolled(state: State, dice: int) -> tuple[State, Observation]:
    chance = random.Random(f"{state['seed']}/{len(state['rolls'])}")
    rolled = [chance.randint(1, 6) for _ in range(dice)]
    turn = 0 if 1 in rolled else state["turn"] + sum(rolled)
    after = state | {"turn": turn, "rolls": [*state["rolls"], rolled]}
    return after, _observed(after, rolled, 0.0, {"lost": state["turn"]} if 1 in rolled else {})


def _held(state: State) -> tuple[State, Observation]:
    if state["turn"] == 0:
        message = "Nothing to hold: roll first"
        raise InvalidAction(message, errors=[{"type": "move", "loc": ["move"], "msg": "nothing to hold"}])
    after = state | {"turn": 0, "banked": state["banked"] + state["turn"]}
    return after, _observed(after, [], state["turn"] / 4)


def _observed(state: State, rolled: list[int], reward: float, metadata: dict[str, Any] | None = None) -> Observation:
    fields = {"rolled": rolled, "turn": state["turn"], "banked": state["banked"]}
    return Observation(fields, reward, state["banked"] >= state["target"], metadata or {})
