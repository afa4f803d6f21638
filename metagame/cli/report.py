"""How commands show what they found: tables, plain lines, one JSON object; and the demo's progress."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from metagame.cli.episodes import Progress

PIPE_WIDTH = 1000
"""Columns of a table that is not shown on a terminal: nothing in it is cut or broken."""
_REFRESH_S = 0.1
_ERRORS_SHOWN = 5


def console_of(*, as_json: bool = False) -> Console:
    """Where tables and lines go: a terminal breaks long lines anywhere, so they are broken between words there."""
    return Console(quiet=as_json, soft_wrap=not sys.stdout.isatty())


def wide_console() -> Console:
    """For tables of many columns, which a pipe gets whole; nothing in them is markup."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def show(console: Console, table: RenderableType) -> None:
    """Print a table; a pipe gets its lines without the blanks that fill them up."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


@contextmanager
def busy(console: Console, text: str) -> Iterator[Callable[[str], None]]:
    """Says what goes on while the block runs: in a line that is gone with it, or line by line where no terminal is.

    Yields what replaces the text; elsewhere than on a terminal only that is printed.
    """
    if not console.is_terminal:
        yield console.print
        return
    with console.status(text) as status:
        yield status.update


def plain(text: object) -> str:
    """What a client or server named, without characters that a terminal would obey."""
    return "".join(sign if sign.isprintable() else "�" for sign in str(text))


def in_time(seconds: float) -> str:
    """A time as people say it: 0.4 s, 42 s, 12 min, 3 h, 2 days."""
    for limit, unit_s, unit in ((10, 1, " s"), (120, 1, " s"), (7_200, 60, " min"), (172_800, 3600, " h")):
        if seconds < limit:
            return f"{seconds / unit_s:.{1 if limit == 10 else 0}f}{unit}"
    return f"{seconds / 86_400:.0f} days"


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
        ("check URL", "what a deployment keeps to, and survives"),
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
