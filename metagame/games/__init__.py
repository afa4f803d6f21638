"""What a game is: a value with two pure functions, and the models of its wire shapes.

Nothing outside this package knows the rules of any game. A game holds no session and no
clock, draws no randomness but from the seed it is given, and never changes a state it was
handed: it returns a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Protocol

from pydantic import BaseModel

from metagame.value import value

State = Any
"""A game's state: any JSON value. It is stored between steps, and read by another worker."""


@value
class Observation:
    """What a reset or step shows the agent.

    `fields` and `metadata` are JSON objects; `reward` is a finite number or None.
    """

    fields: dict[str, Any]
    reward: float | None = None
    done: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)


class Game(Protocol):
    """The rules of one game.

    `reset` and `step` are pure: the same arguments give the same result on every worker.
    Either may raise `InvalidAction` for options or actions that the rules do not take.
    """

    @property
    def name(self) -> str:
        """The environment's name, as in openenv.yaml."""

    @property
    def description(self) -> str:
        """One sentence for `/metadata`."""

    @property
    def version(self) -> str:
        """The version of the rules."""

    @property
    def action_type(self) -> type[BaseModel]:
        """The pydantic model that validates an action; extra fields are forbidden."""

    @property
    def observation_type(self) -> type[BaseModel]:
        """The pydantic model of an observation's schema."""

    def reset(self, seed: int, options: Mapping[str, Any]) -> tuple[State, Observation]:
        """Start an episode from a seed (0 to 2**63 - 1) and the reset's other fields."""

    def step(self, state: State, action: BaseModel) -> tuple[State, Observation]:
        """Take one action; the state it was given stays as it is."""


class Documented(Protocol):
    """What a game may have besides, for `/metadata`."""

    @property
    def readme(self) -> str | None:
        """Its README, in Markdown."""
