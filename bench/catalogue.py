"""Every target there is, in the order in which they are measured."""

from __future__ import annotations

from bench.targets import Target

TARGETS: tuple[Target, ...] = ()
