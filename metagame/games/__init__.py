"""What a game is: a value with two pure functions, and the models of its wire shapes.

Nothing outside this package knows the rules of any game. A game holds no session and no
clock, draws no randomness but from the seed it is given, and never changes a state it was
handed: it returns a new one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from metagame.value import value

TOOL_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
NO_TOOLS = frozenset({"reset", "step", "state", "close"})
"""Names that no tool may have: an agent is not to reach what runs the simulation."""

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


@dataclass(frozen=True, slots=True, eq=False)
class Tool:
    """Something that an agent may call: a step of the game, in words of its own.

    `arguments` is the pydantic model of what it takes, extra fields forbidden. `action` turns them
    into an action as `Game.action_type` takes it, and `result` reads what to answer from what that
    step showed; both are pure. `returns` is the type of the result: a model or a plain type.
    """

    name: str
    description: str
    arguments: type[BaseModel]
    action: Callable[[Any], dict[str, Any]]
    result: Callable[[Observation], Any]
    returns: Any

    def __post_init__(self) -> None:
        """Raise ValueError for a name that no tool may have."""
        if self.name in NO_TOOLS or TOOL_NAME.fullmatch(self.name) is None:
            message = f"{self.name!r} is no name for a tool: 1-128 of A-Z a-z 0-9 . _ -, and none of {sorted(NO_TOOLS)}"
            raise ValueError(message)


@runtime_checkable
class GameWithTools(Protocol):
    """What a game has besides, if agents may call tools of it; the same tools on every worker."""

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools, in the order in which they are listed."""


def tools_of(game: Game) -> tuple[Tool, ...]:
    """The tools of a game; none where it declares none."""
    return game.tools if isinstance(game, GameWithTools) else ()
