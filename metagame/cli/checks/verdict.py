"""What a check is, and what it can come to: passed with a remark, failed, or skipped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NoReturn

if TYPE_CHECKING:
    from metagame.cli.checks.deployment import Deployment

Word = Literal["pass", "fail", "skip"]
OPENENV, SURVIVAL = "OpenEnv", "survival"
OF_ANOTHER = {
    OPENENV: "This server is not Metagame: its own maintainers can mend that, or metagame serve in its place.",
    SURVIVAL: "This server is not Metagame, and promises nothing of the kind. In its place: metagame serve.",
}
"""What to do where a server of another kind fails a check of each group."""


class Failed(Exception):
    """The check failed; the text says what is wrong, `todo` what to do where the check's own advice does not fit."""

    def __init__(self, wrong: str, todo: str | None = None) -> None:
        super().__init__(wrong)
        self.todo = todo


class Skipped(Exception):
    """Nothing to check here; the text says why."""


def fail(wrong: str, todo: str | None = None) -> NoReturn:
    """End the check: this is wrong."""
    raise Failed(wrong, todo)


def skip(why: str) -> NoReturn:
    """End the check: there is nothing to check."""
    raise Skipped(why)


@dataclass(frozen=True, slots=True)
class Check:
    """A named check: `shows` what holds where it passes, `todo` what to do where it fails.

    `run` returns a remark on what it saw. `control`: it needs HTTP control, which production mode has not. `plays`: it
    takes steps of echo, or needs sessions, so that neither another game nor a store that is away tells it anything.
    """

    name: str
    group: str
    shows: str
    todo: str
    run: Callable[[Deployment], Awaitable[str]]
    control: bool = False
    plays: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check came to; `remark` is what was seen, what is wrong, or why there was nothing to check."""

    name: str
    group: str
    word: Word
    remark: str
    todo: str | None = None


def check(  # noqa: PLR0913 - what a check is
    name: str, group: str, shows: str, todo: str, *, control: bool = False, plays: bool = True
) -> Callable[[Callable[[Deployment], Awaitable[str]]], Check]:
    """Make a check of the function below."""
    return lambda run: Check(name, group, shows, todo, run, control, plays)
