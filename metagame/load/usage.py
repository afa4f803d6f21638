"""CPU time and memory of a process, read from outside."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_SCHEDULER_CLOCK = 2

T = TypeVar("T", int, float)


def cpu_s(pid: int) -> float:
    """Seconds of user and system time so far, of threads that have ended too; raises ProcessLookupError.

    On Linux every process has a clock of its CPU time, right to the nanosecond; `/proc` counts in 10 ms.
    """
    if sys.platform == "linux":
        try:
            return time.clock_gettime(~pid << 3 | _SCHEDULER_CLOCK)
        except OSError:
            raise ProcessLookupError(_gone(pid)) from None
    seconds = 0.0
    for part in _shown_by_ps(pid, "time").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def resident_bytes(pid: int) -> int:
    """Memory that the process holds now; raises ProcessLookupError."""
    statm = Path(f"/proc/{pid}/statm")
    if sys.platform == "linux":
        try:
            return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        except OSError:
            raise ProcessLookupError(_gone(pid)) from None
    return int(_shown_by_ps(pid, "rss")) * 1024


def tree(pid: int) -> list[int]:
    """The process and all that it started, as far as they still run and their parents do."""
    children: dict[int, list[int]] = {}
    for line in _all_parents().splitlines():
        child, parent = line.split()
        children.setdefault(int(parent), []).append(int(child))
    found, new = [], [pid]
    while new:
        found += new
        new = [child for parent in new for child in children.get(parent, [])]
    return found


def in_all(measure: Callable[[int], T], pid: int) -> T:
    """What is measured of a process and of all that it started, together; raises ProcessLookupError for itself only."""
    total = measure(pid)
    for child in tree(pid)[1:]:
        with contextlib.suppress(ProcessLookupError):
            total += measure(child)
    return total


def _all_parents() -> str:
    return subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True).stdout  # noqa: S607 - ps is where the system has it


def _shown_by_ps(pid: int, field: str) -> str:
    command = ["ps", "-o", f"{field}=", "-p", str(pid)]
    shown = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - a number and a word of our own
    if shown.returncode:
        raise ProcessLookupError(_gone(pid))
    return shown.stdout.strip()


def _gone(pid: int) -> str:
    return f"no process {pid}"
