"""What a run prints, and the JSON that keeps everything it measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table as Drawn

from bench.targets import QUICK_WIDENING, Check, Result, Table, Target

SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target and what came of it: a result, or why there is none."""

    target: Target
    quick: bool
    result: Result | None = None
    failure: str = ""
    seconds: float = 0.0

    @property
    def reached(self) -> bool:
        """Whether everything that is judged is within its limit."""
        return self.result is not None and all(check.reached(quick=self.quick) for check in self.result.checks)

    def as_json(self) -> dict[str, Any]:
        """Verdicts, figures and series."""
        common = {
            "id": self.target.id,
            "title": self.target.title,
            "reached": self.reached,
            "seconds": round(self.seconds, 1),
        }
        if self.result is None:
            return common | {"failure": self.failure}
        return common | {
            "checks": [
                asdict(check)
                | {"limit_in_this_run": check.limit_in(quick=self.quick), "reached": check.reached(quick=self.quick)}
                for check in self.result.checks
            ],
            "notes": list(self.result.notes),
            "figures": self.result.figures,
            "series": [asdict(series) for series in self.result.series],
        }


def print_header(console: Console, machine: dict[str, Any], versions: dict[str, str], *, quick: bool) -> None:
    """The machine and the versions."""
    console.print(
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']},"
        f" load {machine['load_average']}",
        highlight=False,
    )
    console.print(", ".join(f"{name} {value or 'unknown'}" for name, value in versions.items()), highlight=False)
    if quick:
        console.print(f"Quick: few short rounds, so limits are {QUICK_WIDENING:g} times as wide.", highlight=False)


def print_outcome(console: Console, outcome: Outcome) -> None:
    """The verdicts, and the figures beside them."""
    console.print(f"\n[bold]{outcome.target.id}. {outcome.target.title}[/bold]", highlight=False)
    if outcome.result is None:
        console.print(f"  not measured: {outcome.failure}", style="red", markup=False, highlight=False)
        return
    for check in outcome.result.checks:
        reached = check.reached(quick=outcome.quick)
        console.print(f"  {_verdict(check, quick=outcome.quick)}", style=None if reached else "red", highlight=False)
    if outcome.result.table is not None:
        console.print(_drawn(outcome.result.table))
    for note in outcome.result.notes:
        console.print(f"  {note}", markup=False, highlight=False)


def _verdict(check: Check, *, quick: bool) -> str:
    unit = f" {check.unit}" if check.unit else ""
    word = "reached" if check.reached(quick=quick) else "NOT reached"
    if check.stretch is not None and check.value <= check.stretch:
        word = f"reached, and the stretch of {check.stretch:g}{unit}"
    spread = f", rounds {min(check.rounds):.3g} to {max(check.rounds):.3g}" if len(check.rounds) > 1 else ""
    return f"{check.name}: {check.value:.3g}{unit} (limit {check.limit_in(quick=quick):g}{unit}{spread}): {word}"


def _drawn(table: Table) -> Drawn:
    drawn = Drawn()
    drawn.add_column(overflow="fold")
    for column in table.columns:
        drawn.add_column(column, justify="right")
    for name, cells in table.rows:
        drawn.add_row(name, *cells)
    return drawn
