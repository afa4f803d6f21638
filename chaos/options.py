"""The command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos import load, schedule
from chaos.mutants import MUTANTS

IN_COMPOSE = tuple(kind for kind in schedule.KINDS if kind not in {"failover", "delay"})
"""Compose has one Redis, and no line of ours to slow down."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to run."""

    duration_s: float
    seed: int
    workers: int
    sessions: int
    steps_per_s: float
    faults: tuple[str, ...]
    clients: tuple[str, ...]
    compose: bool
    as_json: bool
    keep: Path | None
    mutant: str | None

    @property
    def plan(self) -> list[schedule.Fault]:
        """The schedule; raises ValueError where the duration is too short for it."""
        names = [f"w{number}" for number in range(1, self.workers + 1)]
        return schedule.plan(self.seed, self.duration_s, self.faults, names)


def parse(arguments: Sequence[str] | None = None) -> Options:
    """The options given; ends the process with 2 and a text where they are wrong."""
    parser = _parser()
    given = parser.parse_args(arguments)
    possible = IN_COMPOSE if given.compose else schedule.KINDS
    faults = _choice(parser, "--faults", given.faults, possible, " with --compose" * given.compose)
    clients = _choice(parser, "--clients", given.clients, load.KINDS, "")
    for name in ("workers", "sessions", "rate", "duration"):
        if getattr(given, name) <= 0:
            parser.error(f"--{name} is {getattr(given, name)}; it must be above 0")
    if given.compose and given.mutant:
        parser.error("--mutant needs workers of our own: it cannot go with --compose")
    options = Options(
        duration_s=given.duration,
        seed=given.seed,
        workers=given.workers,
        sessions=given.sessions,
        steps_per_s=given.rate,
        faults=faults,
        clients=clients,
        compose=given.compose,
        as_json=given.json,
        keep=given.keep,
        mutant=given.mutant,
    )
    try:
        _ = options.plan
    except ValueError as wrong:
        parser.error(f"--duration is {options.duration_s:g}: {wrong}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chaos",
        description="Steps many sessions through a balancer while faults happen, and proves that no step was lost,"
        " repeated or swapped.",
        epilog="Exit codes: 0 clean, 1 a violation, an error of our client or a fault that hit nothing in flight,"
        " 2 usage or something missing, 130 interrupted.",
    )
    parser.add_argument("--duration", type=float, default=120, metavar="S", help="seconds of load; default 120")
    parser.add_argument("--seed", type=int, default=1, help="the schedule follows from it; default 1")
    parser.add_argument("--workers", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument("--sessions", type=int, default=48, metavar="N", help="default 48")
    parser.add_argument("--rate", type=float, default=3, metavar="N", help="steps per second and session; default 3")
    parser.add_argument("--faults", metavar="KINDS", help=f"default all: {','.join(schedule.KINDS)}; none: no faults")
    parser.add_argument("--clients", metavar="KINDS", help=f"default all: {','.join(load.KINDS)}")
    parser.add_argument(
        "--compose",
        action="store_true",
        help=f"on a pool of docker compose, instead of processes; its faults: {','.join(IN_COMPOSE)}",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep journals and logs in a new or empty folder")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="break the commit on purpose: the run must fail")
    return parser


def _choice(
    parser: argparse.ArgumentParser, option: str, given: str | None, possible: Sequence[str], where: str
) -> tuple[str, ...]:
    if given is None:
        return tuple(possible)
    if given == "none" and option == "--faults":
        return ()
    names = [name.strip() for name in given.split(",")]
    if wrong := [name for name in names if name not in possible]:
        parser.error(f"{option} {wrong[0]!r} is not one of {', '.join(possible)}{where}")
    return tuple(name for name in possible if name in names)
