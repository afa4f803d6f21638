"""JSON as the wire and the store take it: no NaN, no infinity, no lone surrogate.

orjson where it is installed (a server always has it), else the standard library: the client's
base install stays small. Both take and refuse the same things, and decode to the same values:
integers beyond 64 bits become floats.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any, Never

try:
    import orjson
except ImportError:  # a base install, for the client and its local transport
    orjson = None  # type: ignore[assignment]  # the client alone goes without
else:
    _AS_JSON = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
    _SORTED = _AS_JSON | orjson.OPT_SORT_KEYS

_NULL = b"null"
_MIN_INTEGER = -(2**63)
_MAX_INTEGER = 2**64 - 1
_LONGEST_64_BITS = len(str(_MAX_INTEGER))


def dumps(value: Any) -> bytes:
    """Encode; raises ValueError or TypeError for what JSON cannot say."""
    if orjson is None:
        return slow_dumps(value)
    return check_finite(orjson.dumps(value, None, _AS_JSON), value)


def canonical(value: Any) -> bytes:
    """Encode with sorted keys: the same value gives the same bytes."""
    if orjson is None:
        return slow_dumps(value, sort_keys=True)
    return check_finite(orjson.dumps(value, None, _SORTED), value)


def dumps_unchecked(value: Any) -> bytes:
    """`dumps` of what holds no NaN and no infinity, since `loads` made it or `check_finite` saw it."""
    return slow_dumps(value) if orjson is None else orjson.dumps(value, None, _AS_JSON)


def canonical_unchecked(value: Any) -> bytes:
    """`canonical` of the same, or where `check_finite` comes next."""
    return slow_dumps(value, sort_keys=True) if orjson is None else orjson.dumps(value, None, _SORTED)


def check_finite(data: bytes, value: Any) -> bytes:
    """The encoded value, unless a null in it was a NaN or an infinity; raises ValueError."""
    if data.find(_NULL) >= 0:  # quicker than `in`, which asks first whether it is a number
        _refuse_non_finite(value)
    return data


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


def deeper_than(value: Any, levels: int) -> bool:
    """Whether a decoded value has more levels of arrays and objects than this."""
    level = [value]
    for _ in range(levels + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def slow_dumps(value: Any, *, sort_keys: bool = False) -> bytes:
    """`dumps` by the standard library."""
    _check(value)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=sort_keys, separators=(",", ":"))
    return text.encode()


def slow_loads(data: bytes | str) -> Any:
    """`loads` by the standard library."""
    text = data if isinstance(data, str) else data.decode()
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_integer)
    except RecursionError:
        _refuse("such deep nesting")
    text.encode()
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # an escape is the other way for a lone surrogate to come in
    return value


def _refuse_non_finite(value: Any) -> None:
    """Raise where a null in what orjson wrote is a NaN or an infinity."""
    if isinstance(value, float):
        if not math.isfinite(value):
            _refuse(str(value))
    elif isinstance(value, dict):
        for inner in value.values():
            _refuse_non_finite(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_non_finite(inner)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()


def _check(value: Any) -> None:
    """Refuse what orjson refuses and the standard library would write."""
    values = [value]
    while values:
        one = values.pop()
        if isinstance(one, dict) and not all(isinstance(key, str) for key in one):
            message = "names in JSON are text"
            raise TypeError(message)
        if isinstance(one, int) and not _fits(one):
            message = "an integer has up to 64 bits"
            raise TypeError(message)
        values.extend(_inside(one))


def _integer(number: str) -> int | float:
    if len(number) <= _LONGEST_64_BITS and _fits(int(number)):
        return int(number)
    return _finite(number)


def _fits(value: int) -> bool:
    return _MIN_INTEGER <= value <= _MAX_INTEGER


def _finite(number: str) -> float:
    value = float(number)
    if value in (float("inf"), float("-inf")):
        _refuse(number)
    return value


def _refuse(constant: str) -> Never:
    message = f"{constant} is not JSON"
    raise ValueError(message)


loads: Callable[[bytes | str], Any] = slow_loads if orjson is None else orjson.loads
"""Decode; raises ValueError for anything but JSON."""
