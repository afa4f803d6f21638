"""The echo game's public models, in OpenEnv's shapes; what a trainer reads and writes.

They are the same classes on both ends: the client parses answers into them and the echo
game validates actions and publishes its schemas with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

ObservationT = TypeVar("ObservationT", bound=BaseModel)


class MetaGameAction(BaseModel):
    """One message to echo."""

    model_config = ConfigDict(extra="forbid")

    metadata: dict[str, Any] = Field(
        default_factory=dict, description="Additional metadata for the action; echo ignores it"
    )
    message: str = Field(description="Message to echo back")


class MetaGameObservation(BaseModel):
    """The echoed message, its length in code points, and the step's reward."""

    model_config = ConfigDict(extra="forbid")

    done: bool = Field(default=False, description="Whether the episode has ended")
    reward: bool | int | float | None = Field(default=None, description="Reward of the last action")
    metadata: dict[str, Any] = Field(default_factory=dict, description="Additional metadata for the observation")
    echoed_message: str = Field(default="", description="The echoed message")
    message_length: int = Field(default=0, description="Its length in code points")


class MetaGameState(BaseModel):
    """Where a session stands: its episode and the number of steps committed in it."""

    model_config = ConfigDict(extra="allow")

    episode_id: str | None = Field(
        default=None, description="Unique identifier of the current episode, null before a reset"
    )
    step_count: int = Field(default=0, ge=0, description="Steps committed in the current episode")


@dataclass(frozen=True, slots=True)
class StepResult(Generic[ObservationT]):
    """What `reset` and `step` return; reward and done also stand in the observation."""

    observation: ObservationT
    reward: float | None = None
    done: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)
