"""Ways to play a game, so that one test body can be run with several games."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from metagame.games import Game, Observation, State
from metagame.games.echo import EchoGame
from tests.games.pig import PigGame


@dataclass(frozen=True)
class Play:
    """A game, a seed and options for it, and actions that the episode takes one after the other."""

    make: Callable[[], Game]
    seed: int
    options: Mapping[str, Any]
    actions: tuple[dict[str, Any], ...]
    bad_action: dict[str, Any]

    def model(self) -> Model:
        """The pure game, to compare with."""
        return Model(self)


class Model:
    """The rules themselves, without a server: what an episode must look like."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._game = play.make()
        self._state: State = None

    def reset(self) -> Observation:
        self._state, observation = self._game.reset(self._play.seed, self._play.options)
        return observation

    def step(self, action: dict[str, Any]) -> Observation:
        self._state, observation = self._game.step(self._state, self._game.action_type.model_validate(action))
        return observation

    def episode(self) -> list[Observation]:
        """The reset's observation and that of every action."""
        return [self.reset(), *[self.step(action) for action in self._play.actions]]


ECHO = Play(
    EchoGame,
    seed=7,
    options={"ignored": True},
    actions=tuple({"message": text} for text in ("Hello, World!", "one", "", "héé😀", "a\0b", "x" * 27, "last")),
    bad_action={"message": 5},
)
ROLL = {"move": "roll", "dice": 1}
PIG = Play(
    PigGame,
    seed=11,
    options={"target": 12},
    actions=({"move": "roll", "dice": 2}, ROLL, ROLL, ROLL, {"move": "roll", "dice": 2}, ROLL, ROLL),
    bad_action={"move": "roll", "dice": 3},
)
PLAYS = {"echo": ECHO, "pig": PIG}
