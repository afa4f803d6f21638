"""Bodies of requests about a game's tasks, and how their splits are answered; OpenEnv 0.10's."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from metagame.games.tasks import Split

_TYPES = frozenset({"train", "validation", "test"})
_OTHER_TYPE = "validation"


class SplitBody(BaseModel):
    """Body of `/tasks` and `/num_tasks`."""

    model_config = ConfigDict(extra="forbid")

    split: Annotated[str, Field(description="Name of the split")]


class TaskBody(SplitBody):
    """Body of `/task`."""

    index: Annotated[int, Field(description="Place of the task in its split, from 0")]


class TaskRangeBody(SplitBody):
    """Body of `/task_range`."""

    start: Annotated[int | None, Field(description="The first, as a slice counts")] = None
    stop: Annotated[int | None, Field(description="The one behind the last, as a slice counts")] = None


def split_object(split: Split) -> dict[str, Any]:
    """A split as it is answered; one of another name than the usual ones is for validation."""
    if isinstance(split, str):
        return {"name": split, "type": split if split in _TYPES else _OTHER_TYPE}
    return dict(split)
