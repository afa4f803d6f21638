"""Says whether this tree may be released; docs/release.md says what is done with the answer.

    python -m release [CHECK ...] [--uv UV] [--json]

The checks run in their order, and the rest go on after one has failed. What cannot be checked on this machine is
said, and is no failure. Exit code 0: all that could be checked passed; 1: one failed; 2: there is no such check.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from release.checks import CHECKS, CheckFailed, NotCheckable, Tree

SCHEMA_VERSION = 1
PASSED, FAILED, NOT_CHECKED = "passed", "FAILED", "not checked"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks and print what came of each; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m release", description="Say whether this tree may be released.")
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"some of: {', '.join(CHECKS)}; default: all")
    parser.add_argument("--uv", default="uv", help="the uv that makes pins and packages")
    parser.add_argument("--tree", type=Path, default=Path(__file__).resolve().parents[1], help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.checks if name not in CHECKS]:
        parser.error(f"there is no check {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    results = []
    for name in given.checks or CHECKS:
        result = _run(name, Tree(given.tree, given.uv))
        results.append(result)
        if not given.as_json:
            print(f"{name:<9} {result['outcome']:<12} {result['seconds']:>5} s  {result['says']}", flush=True)
    failed = any(result["outcome"] == FAILED for result in results)
    if given.as_json:
        print(json.dumps({"schema_version": SCHEMA_VERSION, "passed": not failed, "checks": results}, indent=2))
    return 1 if failed else 0


def _run(name: str, tree: Tree) -> dict[str, str | float]:
    began = time.monotonic()
    try:
        outcome, says = PASSED, CHECKS[name](tree)
    except CheckFailed as wrong:
        outcome, says = FAILED, str(wrong)
    except NotCheckable as missing:
        outcome, says = NOT_CHECKED, str(missing)
    return {"check": name, "outcome": outcome, "says": says, "seconds": round(time.monotonic() - began, 1)}


if __name__ == "__main__":
    sys.exit(main())
