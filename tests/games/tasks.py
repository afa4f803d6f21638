"""Tasks for a game of the tests, ours or the reference server's: nothing of either is needed here."""

from __future__ import annotations

from typing import Any

WORDS = {"train": ["one", "two", "three"], "hard": ["héé😀"], "odd": []}


class Tasks:
    """Words to send, in three splits; one that is unknown is a failure, as with a data set that is not there."""

    def list_splits(self) -> list[Any]:
        return ["train", {"name": "hard", "type": "test"}, "odd"]

    def list_tasks(self, split: str) -> list[Any]:
        return [{"id": f"{split}-{index}", "word": word} for index, word in enumerate(WORDS[split])]

    def num_tasks(self, split: str) -> int:
        return len(WORDS[split])

    def get_task(self, split: str, index: int) -> Any:
        return self.list_tasks(split)[index]

    def get_task_range(self, split: str, start: int | None, stop: int | None) -> list[Any]:
        return self.list_tasks(split)[start:stop]
