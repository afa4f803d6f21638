"""What a run came to: numbers, a verdict, and both as a table or as JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from chaos.hits import Impact, Pauses, Strike, calls_of, impacts, missed_kinds, pauses, pauses_under_fault, waited_s
from chaos.journal import Journal
from chaos.judge import Verdict
from chaos.options import Options

SCHEMA_VERSION = 1
_SHOWN = 10


class Report:
    """A finished run. `trouble` is what went wrong with the pool itself."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that a run is
        self,
        options: Options,
        lasted_s: float,
        journals: Sequence[Journal],
        strikes: Sequence[Strike],
        verdict: Verdict,
        trouble: list[str],
    ) -> None:
        self.options = options
        self.lasted_s = lasted_s
        self.verdict = verdict
        self.trouble = trouble
        self.strikes = strikes
        self.errors = [
            journal.line(entry) for journal in journals for entry in journal.entries if entry.what == "error"
        ]
        calls = calls_of(journals)
        self.sessions = len({journal.session for journal in journals})
        self.counts = Counter("steps" if call.verb == "step" else "episodes" for call in calls if call.answered)
        self.retries = sum(len(call.failures_s) for call in calls if call.answered)
        self.unknown = sum(entry.what == "unknown" for journal in journals for entry in journal.entries)
        self.unread = sum("unread" in entry.fields for journal in journals for entry in journal.entries)
        """After how many calls of unknown outcome Redis could not tell which call has the number."""
        self.waited_s = waited_s(calls, strikes)
        self.pauses = pauses(calls)
        self.pauses_under_fault = pauses_under_fault(calls, strikes)
        self.impacts: dict[str, list[Impact]] = defaultdict(list)
        for impact in impacts(calls, strikes):
            self.impacts[impact.strike.kind].append(impact)

    @property
    def missed(self) -> list[str]:
        """The kinds of faults that hit no call in flight."""
        return missed_kinds(self.options.faults, [impact for struck in self.impacts.values() for impact in struck])

    @property
    def passed(self) -> bool:
        """No violation, no error at our client, and every kind of fault has hit something."""
        return not (self.verdict.violations or self.errors or self.missed or self.trouble)

    def as_json(self) -> dict[str, Any]:
        """One object, all times in seconds."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "chaos",
            "passed": self.passed,
            "seed": self.options.seed,
            "mode": "compose" if self.options.compose else "processes",
            "mutant": self.options.mutant,
            "duration_s": round(self.lasted_s, 1),
            "workers": self.options.workers,
            "sessions": self.sessions,
            "episodes": self.counts["episodes"],
            "steps": self.counts["steps"],
            "retries": self.retries,
            "unknown": {
                "calls": self.unknown,
                "counted": self.verdict.counted,
                "not_counted": self.verdict.not_counted,
                "counted_late": self.verdict.counted_late,
                "unread": self.unread,
            },
            "faults": [self._fault_json(kind) for kind in self.options.faults],
            "strikes": [asdict(strike) for strike in self.strikes],
            "missed": self.missed,
            "waited_s": round(self.waited_s, 4),
            "pauses": _pauses_json(self.pauses),
            "pauses_under_fault": _pauses_json(self.pauses_under_fault),
            "errors": self.errors,
            "trouble": self.trouble,
            "violations": [asdict(violation) for violation in self.verdict.violations],
        }

    def print(self, console: Console) -> None:
        """Tables, then what is wrong with its evidence."""
        if self.options.faults:
            console.print(self._fault_table())
        console.print(self._number_table())
        for text in self.trouble:
            console.print(f"trouble: {text}", style="red", markup=False)
        for kind in self.missed:
            console.print(f"no {kind} hit a call in flight", style="red", markup=False)
        _print_some(console, "our client raised", self.errors)
        lines = [
            "\n    ".join([f"{one.kind}: session {one.session} step {one.step}: {one.text}", *one.lines])
            for one in self.verdict.violations
        ]
        _print_some(console, "violation", lines)
        console.print(self._last_line(), style="bold green" if self.passed else "bold red", markup=False)

    def _last_line(self) -> str:
        violations = len(self.verdict.violations)
        if self.passed:
            return f"0 violations in {self.counts['steps']} steps of {self.sessions} sessions"
        return (
            f"failed: {violations} violations, {len(self.errors)} errors at our client,"
            f" {len(self.missed)} kinds of faults that hit nothing, {len(self.trouble)} troubles"
        )

    def _fault_json(self, kind: str) -> dict[str, Any]:
        found = self.impacts[kind]
        hit = [call for impact in found for call in impact.hit]
        return {
            "kind": kind,
            "times": len(found),
            "in_flight": sum(impact.in_flight for impact in found),
            "hit": len(hit),
            "worst_s": round(max((call.took_s for call in hit), default=0.0), 3),
            "notes": [impact.strike.note for impact in found if impact.strike.note],
        }

    def _fault_table(self) -> Table:
        table = Table(title=f"Faults of seed {self.options.seed}", title_justify="left")
        for name in ("fault", "times", "in flight", "hit", "worst pause"):
            table.add_column(name, justify="left" if name == "fault" else "right")
        for kind in self.options.faults:
            row = self._fault_json(kind)
            table.add_row(kind, str(row["times"]), str(row["in_flight"]), str(row["hit"]), _seconds(row["worst_s"]))
        return table

    def _number_table(self) -> Table:
        unknown = self.verdict
        counted = f"{unknown.counted} counted, {unknown.not_counted} did not, {unknown.counted_late} of them late"
        if self.unread:
            counted += f"; {self.unread} times Redis could not tell"
        table = Table(show_header=False)
        table.add_column()
        table.add_column(justify="right")
        rows = (
            ("load", f"{self.lasted_s:.0f} s, {self.options.workers} workers, {self.sessions} sessions"),
            ("steps answered", f"{self.counts['steps']} in {self.counts['episodes']} episodes"),
            ("sent again by clients", str(self.retries)),
            ("unknown outcomes at stock clients", f"{self.unknown}: {counted}"),
            ("pause, all calls", _pauses(self.pauses)),
            ("pause, calls during a fault", _pauses(self.pauses_under_fault)),
            ("errors at our client", str(len(self.errors))),
            ("violations", str(len(self.verdict.violations))),
        )
        for name, value in rows:
            table.add_row(name, value)
        return table


def _print_some(console: Console, what: str, texts: list[str]) -> None:
    for text in texts[:_SHOWN]:
        console.print(f"{what}: {text}", style="red", markup=False, soft_wrap=True)
    if len(texts) > _SHOWN:
        console.print(f"and {len(texts) - _SHOWN} more", style="red")


def _pauses(found: Pauses) -> str:
    return f"p50 {_seconds(found.p50_s)}, p99 {_seconds(found.p99_s)}, worst {_seconds(found.worst_s)}"


def _pauses_json(found: Pauses) -> dict[str, float]:
    return {name: round(value, 4) for name, value in asdict(found).items()}


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
