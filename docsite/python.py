"""The client's reference, out of signatures and docstrings.

The names are those of `metagame.__all__`; errors have a page of their own. It is not mkdocstrings because the
house writes arguments as `name: what` below a docstring's prose, which none of its styles reads.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import metagame
from docsite.markdown import block, code, docstring, table

CLIENTS = ("AsyncGameEnv", "GameEnv", "AsyncMetaGameEnv", "MetaGameEnv")
MODELS = ("MetaGameAction", "MetaGameObservation", "MetaGameState", "StepResult")
TRANSPORTS = ("LocalTransport", "WebSocketTransport", "HttpTransport", "Transport", "ConnectionLost")
_WIDE = 100
_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def clients() -> str:
    """The clients."""
    return _described(CLIENTS)


def models() -> str:
    """What goes in and comes out."""
    return _described(MODELS)


def transports() -> str:
    """What carries it."""
    return _described(TRANSPORTS)


def _described(names: tuple[str, ...]) -> str:
    return "\n\n".join(part for name in names for part in _class(name, getattr(metagame, name)))


def _class(name: str, kind: type) -> Iterator[str]:
    yield f"### {name} {{ #{name} }}"
    base = next((one.__name__ for one in kind.__mro__[1:] if one.__name__ in metagame.__all__), None)
    own = "__init__" in vars(kind) and not getattr(kind, "_is_protocol", False)
    if own:
        yield block("python", _signature(name, kind.__init__))  # type: ignore[misc]  # whichever class it is
    elif base is not None:
        yield f"A [{base}](#{base}), with its arguments and methods."
    arguments = inspect.signature(kind).parameters if own else ()
    yield docstring(kind.__doc__, arguments)
    if fields := _fields(kind):
        yield table(("field", "type", "default", "what"), fields)
    for called, member in vars(kind).items():
        if not called.startswith("_"):
            yield from _member(name, called, member)


def _member(owner: str, name: str, member: Any) -> Iterator[str]:
    function: Any = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    if not inspect.isfunction(inspect.unwrap(function)):
        return
    function = inspect.unwrap(function)
    yield f"#### {name} {{ #{owner}.{name} }}"
    if isinstance(member, property):
        yield block("python", f"{name}: {function.__annotations__['return']}")
    else:
        yield block("python", _signature(name, function))
    yield docstring(function.__doc__, inspect.signature(function).parameters)


def _fields(kind: type) -> list[tuple[str, str, str, str]]:
    if issubclass(kind, BaseModel):
        return [
            (
                code(name),
                code(_annotation(field.annotation)),
                "" if field.default is PydanticUndefined else code(repr(field.default)),
                field.description or "",
            )
            for name, field in kind.model_fields.items()
        ]
    if dataclasses.is_dataclass(kind):
        return [
            (code(field.name), code(field.type), _dataclass_default(field), "") for field in dataclasses.fields(kind)
        ]
    return []


def _dataclass_default(field: dataclasses.Field[Any]) -> str:
    return "" if field.default is dataclasses.MISSING else code(repr(field.default))


def _signature(name: str, function: Callable[..., Any]) -> str:
    """A function as one would call it, an argument a line where it is long."""
    shown: list[str] = []
    starred = False
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.name in {"self", "cls"}:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            shown.append("*")
            starred = True
        stars = _STARS.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        shown.append(f"{stars}{parameter.name}: {_annotation(parameter.annotation)}{default}")
    returned = signature.return_annotation
    says = "" if name[0].isupper() or returned is signature.empty else f" -> {_annotation(returned)}"
    called = ("async def " if inspect.iscoroutinefunction(function) else "" if name[0].isupper() else "def ") + name
    line = f"{called}({', '.join(shown)}){says}"
    if len(line) <= _WIDE:
        return line
    return f"{called}(\n{''.join(f'    {one},{chr(10)}' for one in shown)}){says}"


def _annotation(annotation: Any) -> str:
    shown = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return shown.replace("typing.", "")
