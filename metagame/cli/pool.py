"""`metagame pool`: what `GET /pool` says of all workers and of Redis, once or again and again.

How it looks stands in `pool_view`. The pool's numbers are for operators: the server decides who may see them, and its
refusal says how.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from metagame.cli import DONE, UNREACHABLE, report
from metagame.cli.outcome import Refused, print_json
from metagame.cli.pool_view import one_line, store_is_away, view
from metagame.cli.target import Server, Unreachable, target_of

PATH = "/pool"
KEPT = 300
"""Past looks that the sparkline may show."""


def status(url: str, api_key: str | None, *, as_json: bool) -> int:
    """Show the pool once; returns the exit code: its store may be what is unreachable."""
    with Server(target_of(url, api_key)) as server:
        pool = _ask(server)
    if as_json:
        print_json("pool status", pool)
    else:
        console = report.wide_console()
        report.show(console, view(pool, server.url, console.width))
    return UNREACHABLE if store_is_away(pool) else DONE


def watch(url: str, api_key: str | None, every_s: float, *, as_json: bool) -> int:
    """Show the pool until a signal."""
    with Server(target_of(url, api_key)) as server:
        looks = _looks(server, every_s)
        if as_json:
            for pool, wrong in looks:
                print_json("pool watch", {"error": wrong} if wrong else pool)
        elif sys.stdout.isatty():
            _watch_live(looks, server.url)
        else:
            for pool, wrong in looks:
                sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {wrong or one_line(pool)}\n")
                sys.stdout.flush()
    return DONE


def _watch_live(looks: Iterator[tuple[dict[str, Any], str | None]], url: str) -> None:
    console = report.wide_console()
    history: deque[float] = deque(maxlen=KEPT)
    shown: RenderableType = ""
    try:
        with Live(console=console, auto_refresh=False, screen=True) as live:
            for pool, wrong in looks:
                if wrong is None:
                    history.append(float(pool["steps"]["per_s"] or 0))
                shown = view(pool, url, console.width, history=history, wrong=wrong, height=console.height)
                live.update(Group(shown, Text("\nCtrl-C ends.", style="dim")), refresh=True)
    finally:
        console.print(shown)  # the screen is gone with its block, and what was last on it stays


def _looks(server: Server, every_s: float) -> Iterator[tuple[dict[str, Any], str | None]]:
    """The pool each time, and why there is nothing newer where there is not; raises what the first look raises."""
    pool = _ask(server)
    yield pool, None
    while True:
        time.sleep(every_s)
        try:
            pool = _ask(server)
        except Unreachable as away:
            yield pool, str(away)
        else:
            yield pool, None


def _ask(server: Server) -> dict[str, Any]:
    pool = server.get(PATH)
    if not {"sessions", "steps", "workers", "redis"} <= pool.keys():
        raise Refused(UNREACHABLE, f"What answers at {server.url}{PATH} is not a pool's status. Check the URL.")
    return pool
