"""CPU time and memory of a process, its threads included."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def cpu_s(pid: int) -> float:
    """Seconds of user and system time so far, in steps of 10 ms on most systems."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    shown = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], check=True, capture_output=True, text=True)  # noqa: S607 - ps is where the system has it
    seconds = 0.0
    for part in shown.stdout.strip().split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def resident_bytes(pid: int) -> int:
    """Memory that the process holds now."""
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], check=True, capture_output=True, text=True)  # noqa: S607 - ps is where the system has it
    return int(shown.stdout) * 1024
