"""JSON as the wire and the store take it: no NaN, no infinity, no lone surrogate.

orjson where it is installed (a server always has it), else the standard library: the client's
base install stays small. Both refuse the same things, in either direction.
"""

from __future__ import annotations

import json
import math
from typing import Any, Never

try:
    import orjson
except ImportError:  # a base install, for the client and its local transport
    orjson = None  # type: ignore[assignment]  # the client alone goes without
else:
    _AS_JSON = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def dumps(value: Any) -> bytes:
    """Encode; raises ValueError or TypeError for what JSON cannot say."""
    if orjson is not None:
        return _faithful(value, orjson.dumps(value, option=_AS_JSON))
    return slow_dumps(value)


def canonical(value: Any) -> bytes:
    """Encode with sorted keys: the same value gives the same bytes."""
    if orjson is not None:
        return _faithful(value, orjson.dumps(value, option=_AS_JSON | orjson.OPT_SORT_KEYS))
    return slow_dumps(value, sort_keys=True)


def loads(data: bytes | str) -> Any:
    """Decode; raises ValueError for anything but JSON."""
    if orjson is not None:
        return orjson.loads(data)
    return slow_loads(data)


def mistake(data: bytes | str) -> tuple[str, int]:
    """Why text that `loads` refused is not JSON, and at which character."""
    try:
        text = data if isinstance(data, str) else data.decode()
        json.loads(text)
    except json.JSONDecodeError as wrong:
        return wrong.msg, wrong.pos
    except UnicodeDecodeError as wrong:
        return "Text is not UTF-8", wrong.start
    except (RecursionError, ValueError):
        pass
    return "Lone surrogates, NaN, infinity, numbers out of range and very deep nesting are not accepted", 0


def slow_dumps(value: Any, *, sort_keys: bool = False) -> bytes:
    """`dumps` by the standard library."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=sort_keys, separators=(",", ":"))
    return text.encode()


def slow_loads(data: bytes | str) -> Any:
    """`loads` by the standard library."""
    text = data if isinstance(data, str) else data.decode()
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        _refuse("such deep nesting")
    text.encode()
    if "\\u" in text:
        slow_dumps(value)  # an escape is the other way for a lone surrogate to come in
    return value


def _faithful(value: Any, data: bytes) -> bytes:
    """The bytes, unless one of their nulls is a NaN or an infinity, which orjson writes so."""
    if b"null" in data:
        _refuse_non_finite(value)
    return data


def _refuse_non_finite(value: Any) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            _refuse(str(value))
    elif isinstance(value, dict):
        for inner in value.values():
            _refuse_non_finite(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_non_finite(inner)


def _finite(number: str) -> float:
    value = float(number)
    if value in (float("inf"), float("-inf")):
        _refuse(number)
    return value


def _refuse(constant: str) -> Never:
    message = f"{constant} is not JSON"
    raise ValueError(message)
