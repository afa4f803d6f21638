"""Small pieces of Markdown, and what a docstring looks like in it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterable, Sequence

_ARGUMENT = re.compile(r"(\w+): (.+)")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a cell's own bars and line ends are made harmless."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def code(text: object) -> str:
    """The text as code, nothing where it is empty."""
    return f"`{text}`" if str(text) else ""


def block(language: str, text: str) -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def docstring(text: str | None, arguments: Collection[str] = ()) -> str:
    """A docstring of the house's: its lines `name: what`, where they are about arguments, become a list."""
    shown: list[str] = []
    listing = False
    for line in inspect.cleandoc(text or "").splitlines():
        named = _ARGUMENT.fullmatch(line)
        if named is not None and named[1] in arguments:
            shown += [*([] if listing else [""]), f"- `{named[1]}`: {named[2]}"]
            listing = True
        elif listing and line.startswith("    "):
            shown.append(f"  {line.strip()}")
        else:
            shown += [*([""] if listing and line else []), line]
            listing = False
    return "\n".join(shown)


def first_line(text: str | None) -> str:
    """A docstring's first line."""
    return inspect.cleandoc(text or "").partition("\n")[0]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
