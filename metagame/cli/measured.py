"""What `metagame bench` was asked for and what it found, and how both are shown."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from metagame.cli import report
from metagame.load import Opened, Play, Played, Sockets
from metagame.load.latencies import histogram, summary

DURATION_S = 10.0
_KEPT = 0.95
_BUSY = 0.85
"""A load process that uses more of its core measures itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the caller asked for; None leaves it to what the server is."""

    sockets: int
    processes: int
    steps: int | None
    duration_s: float | None
    rate_per_s: float | None
    think_s: float
    http: bool
    anonymous: bool
    request_ids: bool | None
    headers: tuple[str, ...]
    sources: tuple[str, ...]
    pids: tuple[int, ...]
    timeout_s: float
    as_json: bool

    def play(self) -> Play:
        """Ten seconds where nothing says how long."""
        duration_s = DURATION_S if self.steps is None and self.duration_s is None else self.duration_s
        return Play(steps=self.steps, duration_s=duration_s, think_s=self.think_s, rate_per_s=self.rate_per_s)


@dataclass(frozen=True, slots=True)
class Watched:
    """A process that the caller named, and what it used during the steps."""

    pid: int
    cpu_s: float
    resident_bytes: float
    per_socket_bytes: float
    """Growth of its memory while the sockets opened."""

    @property
    def ended(self) -> bool:
        """Whether it ended during the run, so that there are no numbers."""
        return math.isnan(self.cpu_s + self.resident_bytes + self.per_socket_bytes)


@dataclass(frozen=True, slots=True)
class Measured:
    """All that was found."""

    opened: Opened
    played: Played
    watched: list[Watched]
    rate_per_s: float | None = None

    @property
    def rate_kept(self) -> bool:
        """Whether an open loop's steps were taken as fast as planned."""
        return self.rate_per_s is None or self.played.steps_per_s >= _KEPT * self.rate_per_s

    @property
    def ended(self) -> list[int]:
        """Processes to be watched that ended during the run."""
        return [one.pid for one in self.watched if one.ended]

    @property
    def errors(self) -> int:
        """Of opening and of steps."""
        return self.opened.errors.count + self.played.errors.count

    @property
    def texts(self) -> list[str]:
        """The first few errors."""
        return [*self.opened.errors.texts, *self.played.errors.texts]

    @property
    def passed(self) -> bool:
        """Whether every socket opened, every step was sent and answered as it must be, and no watched process ended."""
        return not self.errors and not self.played.unsent and not self.ended


def show(console: Console, plan: Plan, found: Measured) -> None:
    """A table, the first errors, and what to make of the numbers."""
    played = found.played
    rows = [
        ("sockets", f"{found.opened.count}"),
        ("steps", f"{played.steps}"),
        ("steps/s", f"{played.steps_per_s:,.0f}"),
    ]
    rows += [(name, f"{value:.2f} ms") for name, value in summary(played.latency_ms).items()]
    rows += [("errors", f"{found.errors}")]
    rows += [("steps not sent, their socket being lost", f"{played.unsent}")] if played.unsent else []
    for one in found.watched:
        if one.ended:
            rows += [(f"process {one.pid}", "ended during the run")]
            continue
        name = f"process {one.pid}"
        rows += [(f"{name}, CPU per step", f"{one.cpu_s / played.steps * 1e6:.0f} µs")] if played.steps else []
        rows += [(f"{name}, memory", f"{one.resident_bytes / 1e6:.0f} MB")]
        rows += [(f"{name}, memory per socket opened", f"{one.per_socket_bytes / 1e3:.1f} KB")]
    rows += [("this load, CPU per step", f"{played.own_us_per_step:.0f} µs")] if played.steps else []
    rows += [("this load, share of a core", f"{played.own_busy:.0%}")]
    report.print_table(console, "Every answer checked" if found.passed else "Something is wrong", rows)
    report.print_errors(console, found.texts)
    if plan.rate_per_s is not None:
        console.print("Open loop: latencies count from the planned moment of each step.")
    else:
        console.print("Closed loop: while the server stalls nothing is sent, so latencies hide it; --rate shows it.")
    if not found.rate_kept:
        console.print(
            f"The rate was not kept: {played.steps_per_s:,.0f} of {plan.rate_per_s:,.0f} steps/s. Latencies grow the"
            " longer that lasts; a lower --rate, or more --processes if it is the load's fault.",
            style="red",
        )
    if played.own_busy > _BUSY:
        console.print("The load itself is at its limit: try more --processes, or another machine.", style="red")


def as_json(plan: Plan, sockets: Sockets, found: Measured) -> dict[str, Any]:
    """The same and more for programs."""
    opened, played = found.opened, found.played
    return {
        "loop": "closed" if plan.rate_per_s is None else "open",
        "rate_per_s": plan.rate_per_s,
        "rate_kept": found.rate_kept,
        "think_s": plan.think_s,
        "sockets": opened.count,
        "request_ids": sockets.request_ids,
        "open_s": round(opened.seconds, 4),
        "open_ms": summary(opened.open_ms),
        "steps": played.steps,
        "steps_not_sent": played.unsent,
        "seconds": round(played.seconds, 4),
        "steps_per_s": round(played.steps_per_s, 1),
        "latency_ms": summary(played.latency_ms),
        "histogram_ms": histogram(played.latency_ms),
        "errors": {"count": found.errors, "texts": found.texts},
        "load": {
            "processes": len(played.own_cpu_s),
            "cpu_s": [round(value, 6) for value in played.own_cpu_s],
            "us_per_step": round(played.own_us_per_step, 2),
            "busy": round(played.own_busy, 3),
        },
        "processes": [
            {
                "pid": one.pid,
                "command": _command(one.pid),
                "cpu_s": round(one.cpu_s, 6),
                "us_per_step": round(one.cpu_s / played.steps * 1e6, 2) if played.steps else None,
                "resident_bytes": round(one.resident_bytes),
                "bytes_per_socket": round(one.per_socket_bytes),
            }
            for one in found.watched
            if not one.ended
        ],
        "processes_ended": found.ended,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
