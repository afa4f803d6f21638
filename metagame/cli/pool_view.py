"""How a pool looks on a terminal: `GET /pool`'s answer in, lines and tables out. Asks nobody anything."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metagame.cli.report import in_time, plain

BARS = "▁▂▃▄▅▆▇█"
SPARK = 40
"""Columns of the sparkline, where there is room."""
STORE_AWAY = "The session store gives no answer: these figures are of the one worker that was asked."
_WIDE = 110
"""Columns from which a worker's host, process, version and age are shown."""
_BESIDE_WORKERS = 16
"""Lines that are no worker's."""
_STATES = {"ready": "green", "up": "green", "draining": "yellow", "silent": "red", "down": "red"}


def view(  # noqa: PLR0913 - what a screen is made of
    pool: Mapping[str, Any],
    url: str,
    width: int,
    *,
    history: Iterable[float] = (),
    wrong: str | None = None,
    height: int | None = None,
) -> RenderableType:
    """The whole pool; `history` are steps/s of past looks, `wrong` says why the pool shown is not the newest."""
    at = time.strftime("%H:%M:%S", time.localtime(pool.get("at") or time.time()))
    head = Text.assemble((f"Pool at {url}", "bold"), f"  {plain(pool.get('store', ''))}, {at}")
    parts: list[RenderableType] = [head]
    if wrong:
        parts.append(Text(f"Not the newest: {wrong}", style="red"))
    if store_is_away(pool):
        parts.append(Text(STORE_AWAY, style="red"))
    parts += [Text(), _summary(pool, history, width), Text(), _workers(pool["workers"], width, height)]
    if pool["redis"]:
        parts += [Text(), _redis(pool["redis"], width)]
    return Group(*parts)


def store_is_away(pool: Mapping[str, Any]) -> bool:
    """Whether the worker that was asked had no answer of its store, and knows of no other worker."""
    return pool["sessions"].get("total") is None


def one_line(pool: Mapping[str, Any]) -> str:
    """The same in a line, for logs."""
    sessions, latency = pool["sessions"], pool.get("latency_ms") or {}
    errors = sum((pool.get("errors") or {}).values())
    return "  ".join(
        [
            f"{_number(sessions['total'])} sessions ({_number(sessions['attached'])} attached)",
            f"{_rate(pool['steps']['per_s'])} steps/s",
            f"p50 {_ms(latency.get('p50'))}  p99 {_ms(latency.get('p99'))}",
            f"{_number(errors)} errors",
            f"workers: {_states(pool['workers'])}",
            *([f"redis: {_states(pool['redis'])}"] if pool["redis"] else []),
            *([STORE_AWAY] if store_is_away(pool) else []),
        ]
    )


def sparkline(values: Sequence[float], columns: int) -> str:
    """The newest values as bars, from nothing to the highest of them."""
    shown = list(values)[-columns:]
    top = max(shown, default=0.0)
    if top <= 0:
        return BARS[0] * len(shown)
    return "".join(BARS[min(len(BARS) - 1, int(value / top * len(BARS)))] for value in shown)


def _summary(pool: Mapping[str, Any], history: Iterable[float], width: int) -> Table:
    sessions, latency = pool["sessions"], pool.get("latency_ms") or {}
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    room = f" of {_number(sessions['max'])}" if sessions.get("max") else ""
    table.add_row(
        "sessions",
        f"{_number(sessions['total'])}{room}: {_number(sessions['attached'])} attached"
        f" ({_number(sessions['anonymous'])} anonymous), {_number(sessions['detached'])} detached",
    )
    for name in ("steps", "requests"):
        counted = pool.get(name) or {}
        table.add_row(name, f"{_rate(counted.get('per_s'))}/s, {_number(counted.get('total'))} of these workers")
    past = list(history)
    if len(past) > 1:
        table.add_row("", Text(sparkline(past, min(SPARK, max(10, width - 30))), style="cyan"))
    percentiles = "   ".join(f"{name} {_ms(latency.get(name))}" for name in ("p50", "p90", "p99", "p99.9"))
    table.add_row("a step takes", percentiles)
    errors = {code: count for code, count in (pool.get("errors") or {}).items() if count}
    told = "   ".join(f"{plain(code)} {_number(count)}" for code, count in sorted(errors.items()))
    table.add_row("errors", Text(told, style="yellow") if told else "none")
    return table


def _workers(workers: Sequence[Mapping[str, Any]], width: int, height: int | None) -> RenderableType:
    wide = width >= _WIDE
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("worker", no_wrap=True)
    if wide:
        table.add_column("host", overflow="ellipsis", no_wrap=True, max_width=16)
        table.add_column("pid", justify="right", no_wrap=True)
        table.add_column("version", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name in ("sockets", "steps/s", "p50", "p99", "Redis p99" if wide else "Redis", "memory", "CPU"):
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column("up for", justify="right", no_wrap=True)
    # Those in trouble first: where the screen is too short, they are seen.
    order = sorted(workers, key=lambda one: (one["state"] == "ready", str(one["worker_id"])))
    room = len(order) if height is None else max(3, height - _BESIDE_WORKERS)
    for one in order[:room]:
        latency, redis = one.get("latency_ms") or {}, one.get("redis_round_trip_ms") or {}
        table.add_row(
            plain(one["worker_id"]),
            *([plain(one.get("host", "")), str(one.get("pid", "")), plain(one.get("version", ""))] if wide else []),
            _state(one, since=wide),
            _number(one.get("attached")),
            _rate(one.get("steps_per_s")),
            _ms(latency.get("p50")),
            _ms(latency.get("p99")),
            _ms(redis.get("p99")),
            _bytes(one.get("resident_bytes")),
            "-" if one.get("cpu") is None else f"{one['cpu']:.0%}",
            *([_age(one.get("started_at"))] if wide else []),
        )
    if len(order) <= room:
        return table
    return Group(table, Text(f"and {len(order) - room} more{', all ready' if _ready(order[room:]) else ''}"))


def _redis(nodes: Sequence[Mapping[str, Any]], width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    wide = width >= _WIDE
    for name in ("redis", "role", "state", *(["version"] if wide else [])):
        table.add_column(name, no_wrap=name != "redis", overflow="fold")
    for name in ("memory", "clients", "commands/s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("AOF", no_wrap=True)
    for one in nodes:
        used, most = one.get("used_memory_bytes"), one.get("max_memory_bytes")
        table.add_row(
            plain(one["node"]),
            plain(one.get("role", "")),
            _state(one),
            *([plain(one.get("version") or "-")] if wide else []),
            _bytes(used) + (f" of {_bytes(most)}" if most else ""),
            _number(one.get("clients")),
            _rate(one.get("commands_per_s")),
            plain(one.get("fsync") or "on") if one.get("aof") else "-" if one.get("aof") is None else "off",
        )
    return table


def _state(one: Mapping[str, Any], *, since: bool = False) -> Text:
    state = plain(one.get("state", ""))
    seen_s = one.get("seen_s")
    told = f" {in_time(seen_s)}" if since and state == "silent" and seen_s is not None else ""
    return Text(state + told, style=_STATES.get(state, ""))


def _ready(workers: Sequence[Mapping[str, Any]]) -> bool:
    return all(one["state"] == "ready" for one in workers)


def _states(several: Sequence[Mapping[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for one in several:
        counts[plain(one.get("state", ""))] = counts.get(plain(one.get("state", "")), 0) + 1
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "none"


def _age(started_at: float | None) -> str:
    return "-" if started_at is None else in_time(max(0.0, time.time() - started_at))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} ms" if value < 10 else f"{value:,.0f} ms"


def _bytes(value: float | None) -> str:
    if value is None:
        return "-"
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if value >= size:
            return f"{value / size:.{1 if value < 10 * size else 0}f} {unit}"
    return f"{value / 1e3:.0f} kB"
