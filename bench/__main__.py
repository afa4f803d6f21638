"""`python -m bench`: the targets of speed, each measured beside what it is compared to.

Exit codes: 0 every target was reached, 1 one was not, 2 wrong usage, or something it needs is not there, 130
interrupted. What is measured stands in the JSON target by target.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import plots, report
from bench.catalogue import TARGETS
from bench.contestants import ROOT
from bench.machine import machine, versions
from bench.targets import Options, Target, Unmeasured
from metagame.cli import processes
from metagame.load import FleetFailed

REFERENCE = ROOT / ".venvs" / "openenv-0.10"
QUICK_ROUNDS, ROUNDS = 3, 5
_PIPE_WIDTH = 140
REACHED, MISSED, USAGE, INTERRUPTED = 0, 1, 2, 130
EXPECTED = (Unmeasured, processes.StartFailed, FleetFailed)
"""What speaks for itself, without a traceback."""


class Refused(Exception):
    """The run cannot begin; the text says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print, judge; returns the exit code."""
    given = _parser().parse_args(arguments)
    # Whoever reads a pipe wants tables whole.
    console = Console(stderr=given.json == "-", width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    try:
        chosen = choose(given.targets, quick=given.quick)
        if given.list:
            _list(console)
            return REACHED
        if given.rounds is not None and given.rounds < 1:
            _refuse("--rounds must be at least 1")
        _need(given)
        python = reference_python(given.reference_python)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return USAGE
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    about: dict[str, Any] = {
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "machine": machine(),
        "versions": versions(python),
    }
    report.print_header(console, about["machine"], about["versions"], quick=given.quick)
    outcomes: list[report.Outcome] = []
    everything = {"schema_version": report.SCHEMA_VERSION, "command": "bench", "quick": given.quick, "rounds": rounds}
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # a folder or a child must not stay
    try:
        for target in chosen:
            outcome = measure(target, rounds=rounds, quick=given.quick, python=python)
            report.print_outcome(console, outcome)
            outcomes.append(outcome)
            if given.json != "-":  # what was measured in an hour is not lost in the last minute
                _keep(given, everything | about | _said(outcomes))
    except KeyboardInterrupt:
        _say("Stopped; nothing is left running.")
        return INTERRUPTED
    missed = [outcome.target.id for outcome in outcomes if not outcome.reached]
    measured = sum(outcome.result is not None for outcome in outcomes)
    said = f"not reached: {' '.join(missed)}" if missed else "every one of them reached"
    console.print(f"\n{measured} of {len(outcomes)} targets measured, {said}", highlight=False)
    if given.json == "-":
        _keep(given, everything | about | _said(outcomes))
    if given.plots:
        _draw(console, outcomes, given.plots)
    return MISSED if missed else REACHED


def _said(outcomes: list[report.Outcome]) -> dict[str, object]:
    return {
        "reached": all(outcome.reached for outcome in outcomes),
        "targets": [outcome.as_json() for outcome in outcomes],
    }


def _draw(console: Console, outcomes: list[report.Outcome], folder: Path) -> None:
    series = [one for outcome in outcomes if outcome.result for one in outcome.result.series]
    if not series:
        console.print("nothing to draw: plots are of E, F and H", highlight=False)
        return
    for path in plots.draw(series, folder):
        console.print(f"drawn: {path}", highlight=False)


def choose(asked: Sequence[str], *, quick: bool) -> list[Target]:
    """The targets asked for, in their own order; all, or all quick ones, where none is. Raises Refused."""
    known = {target.id: target for target in TARGETS}
    wanted = {name.upper() for name in asked}
    if unknown := sorted(wanted - known.keys()):
        _refuse(f"no target {', '.join(unknown)}; there are {' '.join(known)}")
    if quick and (slow := sorted(name for name in wanted if not known[name].quick)):
        _refuse(f"--quick has no {', '.join(slow)}: measure them without it")
    return [target for target in TARGETS if target.id in wanted or (not wanted and (target.quick or not quick))]


def measure(target: Target, *, rounds: int, quick: bool, python: Path) -> report.Outcome:
    """One target in a folder of its own; what goes wrong is its outcome, and the others are still measured."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="metagame-bench-") as folder:
        options = Options(rounds, quick, python, Path(folder), lambda text: _say(f"{target.id}: {text}"))
        try:
            result = target.measure(options)
        except Exception as failed:  # noqa: BLE001 - the other targets are worth measuring
            if not isinstance(failed, EXPECTED):
                traceback.print_exc()
            return report.Outcome(
                target, quick, failure=f"{type(failed).__name__}: {failed}", seconds=time.monotonic() - began
            )
    return report.Outcome(target, quick, result, seconds=time.monotonic() - began)


def reference_python(named: Path | None) -> Path:
    """The interpreter that has OpenEnv 0.10: the one named, or one that is made if need be. Raises Refused."""
    if named is None and "METAGAME_TEST_OPENENV_PYTHON" in os.environ:
        named = Path(os.environ["METAGAME_TEST_OPENENV_PYTHON"])
    if named is not None:
        if not named.exists():
            _refuse(f"no Python at {named}: --reference-python names one that has openenv 0.10, uvloop and httptools")
        return named
    python = REFERENCE / "bin" / "python"
    if not (REFERENCE / ".installed").exists():
        if shutil.which("make") is None:
            _refuse("the reference server's environment is made by make, which is not here; or --reference-python")
        _say("the reference server's environment is made; this takes a minute")
        made = subprocess.run(["make", f"{REFERENCE.relative_to(ROOT)}/.installed"], cwd=ROOT, check=False)  # noqa: S607 - the one there is
        if made.returncode != 0:
            _refuse("that failed; --reference-python names a Python that has openenv 0.10, uvloop and httptools")
    return python


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="letters, such as A B E2; default: all")
    parser.add_argument("--quick", action="store_true", help="A to D and H in two minutes or so, with wider limits")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}, or {QUICK_ROUNDS} if quick")
    parser.add_argument("--json", metavar="FILE", help="write everything measured there; - is standard output")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw SVGs there")
    parser.add_argument("--list", action="store_true", help="say what can be measured")
    parser.add_argument("--reference-python", type=Path, metavar="PATH", help="a Python that has openenv 0.10")
    return parser


def _need(given: argparse.Namespace) -> None:
    if shutil.which("redis-server") is None:
        _refuse("this needs redis-server: make bench-setup, or apt-get install redis-server")
    if given.plots and not plots.can_plot():
        _refuse(plots.MISSING)
    if given.json and given.json != "-" and not Path(given.json).resolve().parent.is_dir():
        _refuse(f"--json {given.json}: there is no such folder")
    if given.json and Path(given.json).is_dir():
        _refuse(f"--json {given.json}: that is a folder; name a file in it")
    if given.plots and given.plots.exists() and not given.plots.is_dir():
        _refuse(f"--plots {given.plots}: that is a file; name a folder")


def _list(console: Console) -> None:
    for target in TARGETS:
        quick = ", also quick" if target.quick else ""
        console.print(f"{target.id:<3} {target.title} (about {target.seconds} s{quick})", highlight=False)


def _keep(given: argparse.Namespace, everything: dict[str, object]) -> None:
    if given.json == "-":
        print(json.dumps(everything))
    elif given.json:
        Path(given.json).write_text(json.dumps(everything, indent=1) + "\n")


def _refuse(message: str) -> None:
    raise Refused(message)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
