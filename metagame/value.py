"""Small immutable values, made many times a step.

A frozen dataclass costs four times as much to make as one that is not, and a step makes a dozen. So these
are frozen where it is checked and not where it runs: mypy refuses an assignment to a field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

ClassT = TypeVar("ClassT")


@dataclass_transform(frozen_default=True)
def value(cls: type[ClassT]) -> type[ClassT]:
    """The class as a dataclass with slots, equal by its fields; nobody changes one."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
