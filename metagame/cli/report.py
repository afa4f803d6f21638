"""What the demo shows: a progress bar on a terminal, plain lines elsewhere, and the table at the end."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from metagame.cli.episodes import Progress

_REFRESH_S = 0.1
_ERRORS_SHOWN = 5


@asynccontextmanager
async def shown(progress: Progress, console: Console) -> AsyncIterator[None]:
    """Show the steps answered while the block runs."""
    watch = _bar if console.is_terminal else _lines
    task = asyncio.ensure_future(watch(progress, console))
    try:
        yield
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _bar(progress: Progress, console: Console) -> None:
    columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        line = bar.add_task("steps", total=progress.total)
        while not progress.finished.is_set():
            await _pause(progress)
            bar.update(line, completed=progress.done)


async def _lines(progress: Progress, console: Console) -> None:
    said = 0
    while not progress.finished.is_set():
        await _pause(progress)
        quarter = progress.done * 4 // progress.total
        if quarter > said:
            said = quarter
            console.print(f"{progress.done} of {progress.total} steps")


async def _pause(progress: Progress) -> None:
    try:
        await asyncio.wait_for(progress.finished.wait(), _REFRESH_S)
    except TimeoutError:
        return


def print_table(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    """A table of names and values."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)


def print_next_steps(console: Console) -> None:
    """How to go on, with the command as it can be typed here."""
    command = _this_command()
    console.print("\nGo on:")
    for arguments, what in (
        ("serve", "a server on http://127.0.0.1:8000"),
        ("demo --url URL", "the same episodes on any server"),
        ("demo --crash", "kill a worker, and lose nothing"),
    ):
        console.print(f"  {command} {arguments:<14}  {what}", highlight=False)


def _this_command() -> str:
    if shutil.which("metagame"):
        return "metagame"
    script = Path(sys.argv[0])
    if script.name != "metagame":
        return f"{Path(sys.executable).name} -m metagame"
    return str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)


def print_errors(console: Console, errors: list[str]) -> None:
    """The first few, and how many more there are."""
    for text in errors[:_ERRORS_SHOWN]:
        console.print(f"  {text}", style="red", markup=False)
    if len(errors) > _ERRORS_SHOWN:
        console.print(f"  and {len(errors) - _ERRORS_SHOWN} more")
