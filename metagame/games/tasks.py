"""Tasks: what a game with a data set of them may offer beside its rules, for trainers to look through.

A game offers each by a method of that name; the others are answered as not supported. They are as pure as
the rules: the same on every worker, whatever the sessions do. Playing a task is the reset's business, by
options that the game takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Task = Any
"""A task as trainers see it: any JSON value."""
Split = str | Mapping[str, Any]
"""A split: its name, or a JSON object with `name` and `type` (train, validation or test)."""


class TaskProvider(Protocol):
    """The tasks of a game, in splits.

    A method may raise `InvalidAction` for a split that there is none of.
    """

    def list_splits(self) -> list[Split]:
        """Every split."""

    def list_tasks(self, split: str) -> list[Task]:
        """The tasks of a split, or the first of them where there are very many."""

    def num_tasks(self, split: str) -> int:
        """How many there are."""

    def get_task(self, split: str, index: int) -> Task:
        """One task; raises IndexError where there is none."""

    def get_task_range(self, split: str, start: int | None, stop: int | None) -> list[Task]:
        """Tasks from `start` until before `stop`, as a slice takes them."""
