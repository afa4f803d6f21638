"""What a fleet found: parts come from child processes, and are put together here."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

KEPT_TEXTS = 5
_TEXT_LENGTH = 300
_NUMBERS = re.compile(r"[0-9a-f]{8,}|\d+")
"""Ids and step numbers: texts that differ in nothing else are one."""


@dataclass(slots=True)
class Errors:
    """Every error counted, the first few of different text kept."""

    count: int = 0
    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Count one."""
        self.count += 1
        self._keep(text[:_TEXT_LENGTH])

    def merge(self, other: Errors) -> None:
        """Count another's too."""
        self.count += other.count
        for text in other.texts:
            self._keep(text)

    def _keep(self, text: str) -> None:
        alike = _NUMBERS.sub("#", text)
        if len(self.texts) < KEPT_TEXTS and all(_NUMBERS.sub("#", kept) != alike for kept in self.texts):
            self.texts.append(text)


@dataclass(slots=True)
class Opened:
    """Sockets opened and at the start of an episode; each took `open_ms` from its planned moment until then."""

    count: int
    seconds: float
    own_cpu_s: list[float]
    """CPU time of each load process meanwhile."""
    errors: Errors
    open_ms: array[float] = field(default_factory=lambda: array("d"))

    @classmethod
    def from_wire(cls, fields: dict[str, Any], samples: array[float]) -> Self:
        """What `to_wire` made, back."""
        errors = Errors(fields.pop("error_count"), fields.pop("error_texts"))
        return cls(**fields, errors=errors, open_ms=samples)

    @classmethod
    def merged(cls, parts: Sequence[Self]) -> Self:
        """One of all processes' parts."""
        return cls(
            sum(part.count for part in parts),
            max(part.seconds for part in parts),
            [cpu_s for part in parts for cpu_s in part.own_cpu_s],
            _all_errors(parts),
            _all_samples([part.open_ms for part in parts]),
        )


@dataclass(slots=True)
class Played:
    """Steps answered as they must be, and the rest: `errors`, and steps that were due on sockets that had been lost."""

    steps: int
    unsent: int
    seconds: float
    own_cpu_s: list[float]
    """CPU time of each load process meanwhile."""
    errors: Errors
    latency_ms: array[float] = field(default_factory=lambda: array("d"))

    @property
    def steps_per_s(self) -> float:
        """Steps a second of all sockets together, from the first moment to the last answer."""
        return self.steps / self.seconds if self.seconds else 0.0

    @property
    def own_busy(self) -> float:
        """The share of a core that the busiest load process used: near 1 it measures itself."""
        return max(self.own_cpu_s) / self.seconds if self.seconds else 0.0

    @property
    def own_us_per_step(self) -> float:
        """What one step costs the load processes."""
        return sum(self.own_cpu_s) / self.steps * 1e6 if self.steps else 0.0

    @classmethod
    def from_wire(cls, fields: dict[str, Any], samples: array[float]) -> Self:
        """What `to_wire` made, back."""
        errors = Errors(fields.pop("error_count"), fields.pop("error_texts"))
        return cls(**fields, errors=errors, latency_ms=samples)

    @classmethod
    def merged(cls, parts: Sequence[Self]) -> Self:
        """One of all processes' parts."""
        return cls(
            sum(part.steps for part in parts),
            sum(part.unsent for part in parts),
            max(part.seconds for part in parts),
            [cpu_s for part in parts for cpu_s in part.own_cpu_s],
            _all_errors(parts),
            _all_samples([part.latency_ms for part in parts]),
        )


def _all_errors(parts: Sequence[Opened | Played]) -> Errors:
    errors = Errors()
    for part in parts:
        errors.merge(part.errors)
    return errors


def _all_samples(parts: Sequence[array[float]]) -> array[float]:
    samples = array("d")
    for part in parts:
        samples.extend(part)
    return samples


def to_wire(result: Opened | Played) -> tuple[dict[str, Any], array[float]]:
    """A result's fields for a line of JSON, and its samples, which follow it as they are."""
    fields = {name: getattr(result, name) for name in type(result).__slots__}
    errors = fields.pop("errors")
    samples = fields.pop("open_ms" if isinstance(result, Opened) else "latency_ms")
    return fields | {"error_count": errors.count, "error_texts": errors.texts}, samples
