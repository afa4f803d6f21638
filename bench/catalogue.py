"""Every target there is, in the order in which they are measured."""

from __future__ import annotations

from bench.targets import Target, cost, many, memory, recovery, resident, start, throughput

_MODULES = (cost, many, memory, recovery, resident, start, throughput)

TARGETS: tuple[Target, ...] = tuple(
    sorted((target for module in _MODULES for target in module.TARGETS), key=lambda target: target.id)
)
