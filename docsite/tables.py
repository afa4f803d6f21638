"""Tables out of the code: every setting, every error, every command."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from typer.main import get_command

from docsite.markdown import block, code, first_line, table
from metagame import errors
from metagame.cli import commands
from services.settings import Settings

_COMPARED = {"gt": "above", "ge": "from", "lt": "below", "le": "to"}
_HELP_WIDTH = 90


def settings() -> str:
    """Every setting, with what it takes."""
    rows = [_setting(name, field) for name, field in Settings.model_fields.items()]
    return table(("variable", "default", "takes", "what"), rows)


def error_table() -> str:
    """How each error that a server sends looks outside."""
    rows = [
        (
            f'<span id="{kind.__name__}"></span>`{kind.__name__}`',
            code(row.reason),
            code(row.code),
            f"{row.status}{f' (GET {row.read_status})' if row.read_status else ''}",
            str(row.rpc_code),
            str(row.close_code or ""),
            first_line(kind.__doc__),
        )
        for kind, row in errors.TABLE.items()
    ]
    return table(("error", "reason", "frame code", "HTTP", "JSON-RPC", "closes with", "what"), rows)


def client_errors() -> str:
    """The errors that only a client raises."""
    rows = [(code(kind.__name__), first_line(kind.__doc__)) for kind in _all_errors() if kind not in errors.TABLE]
    return table(("error", "what"), rows)


def error_tree() -> str:
    """The tree, as the module's docstring draws it."""
    drawn = re.findall(r"^    .+$", errors.__doc__ or "", re.MULTILINE)
    return block("text", "\n".join(line[4:] for line in drawn))


def command_line() -> str:
    """What each command says of itself."""
    return "\n\n".join(
        f"## {name} {{ #{name.replace(' ', '-')} }}\n\n{block('text', text)}"
        for name, text in _helped("metagame", get_command(commands.app), None)
    )


def _all_errors() -> list[type[errors.MetaGameError]]:
    """Every error of the tree, the base first."""
    found = [errors.MetaGameError]
    for kind in found:
        found += kind.__subclasses__()
    return [kind for kind in found if kind.__module__ == errors.__name__]


def _setting(name: str, field: Any) -> tuple[str, ...]:
    variable, *bare = [str(choice) for choice in field.validation_alias.choices]
    flag = [f"--{name.replace('_', '-')}"] if name in inspect.signature(commands.serve).parameters else []
    return (
        "<br>".join(
            [f'<span id="{variable}"></span>`{variable}`', *map(code, flag), *(f"(`{other}`)" for other in bare)]
        ),
        _default(field.default),
        _taken(field),
        str(field.description),
    )


def _default(default: Any) -> str:
    if default is None:
        return "unset"
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    return code(shown.lower() if isinstance(default, bool) else shown)


def _taken(field: Any) -> str:
    """What values it takes, as far as its type says."""
    kind = field.annotation
    if NoneType in get_args(kind):
        kind = next(one for one in get_args(kind) if one is not NoneType)
    if get_origin(kind) is Literal:
        return ", ".join(code(value) for value in get_args(kind))
    words = [
        f"{word} {getattr(limit, name):,}"
        for name, word in _COMPARED.items()
        for limit in field.metadata
        if getattr(limit, name, None) is not None
    ]
    plain = {int: "an integer", float: "a number", bool: "`true`, `false`"}.get(kind, "text")
    return " ".join([plain, *words])


def _helped(name: str, command: Any, parent: Any) -> Iterator[tuple[str, str]]:
    with command.context_class(
        command,
        parent=parent,
        info_name=name.rpartition(" ")[2],
        terminal_width=_HELP_WIDTH,
        max_content_width=_HELP_WIDTH,
    ) as context:
        yield name, command.get_help(context)
        for below, one in getattr(command, "commands", {}).items():
            if not one.hidden:
                yield from _helped(f"{name} {below}", one, context)
