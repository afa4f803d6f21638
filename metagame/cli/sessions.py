"""`metagame sessions`: the pool's sessions listed, looked at, watched and ended.

What is said of a session is what `GET /sessions` shows. An id is a key to its session, so the list is for operators:
the server decides who may see it, and its refusal says how.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.live import Live
from rich.table import Table

from metagame.cli import CHECK_FAILED, DONE, UNREACHABLE, USAGE, report
from metagame.cli.outcome import Refused, print_json
from metagame.cli.target import NoSession, Server, Unreachable, session_path, target_of

PAGE = 1000
"""As many as a server lists at once."""
AWAY_S = 60.0
"""How long a server may be away while somebody watches: a restart is no end of a session."""
_ROOM_BESIDE_ID = 44
_SHORTEST_ID = 16
Item = dict[str, Any]
Show = Callable[[Item, str | None], None]
"""Shows a session, and what is wrong meanwhile."""


def show_list(url: str, api_key: str | None, limit: int | None, *, as_json: bool) -> int:
    """Show this many sessions, or all; returns the exit code."""
    with Server(target_of(url, api_key)) as server:
        items, more = _listed(server, limit)
    if as_json:
        print_json("sessions list", {"sessions": items, "more": more})
        return DONE
    console = report.wide_console()
    if items:
        report.show(console, _table(items, console.width))
    count = "no session" if not items else "1 session" if len(items) == 1 else f"{len(items):,} sessions"
    console.print(f"{count} at {server.url}{'; there are more: --all, or a larger --limit' if more else ''}")
    return DONE


def show_one(url: str, api_key: str | None, session_id: str, *, as_json: bool) -> int:
    """Show one session; raises Refused where there is none."""
    with Server(target_of(url, api_key)) as server:
        item = server.session(session_id)
    if as_json:
        print_json("sessions show", item)
    else:
        report.show(report.wide_console(), _details(item))
    return DONE


def watch(url: str, api_key: str | None, session_id: str, every_s: float, *, as_json: bool) -> int:
    """Show each change of the session until it ends."""
    with Server(target_of(url, api_key)) as server:
        last = server.session(session_id)
        with _shown(as_json=as_json) as show:
            show(last, None)
            for item in _looks(server, session_id, every_s, show, last):
                show(item, None)
                last = item
    if as_json:
        print_json("sessions watch", {"session_id": session_id, "ended": True})
    else:
        where = "" if last["step_count"] is None else f" at step {last['step_count']}, or later"
        sys.stdout.write(f"The session ended{where}.\n")
    return DONE


def end(url: str, api_key: str | None, session_ids: list[str], *, yes: bool, as_json: bool) -> int:
    """End these sessions, once somebody has said yes."""
    target = target_of(url, api_key)
    wanted = list(dict.fromkeys(session_ids))
    for session_id in wanted:
        session_path(session_id)  # a malformed id is refused before any session ends
    if not yes:
        _confirm(target.url, wanted)
    ended: list[Item] = []
    with Server(target) as server:
        for session_id in wanted:
            try:
                ended.append({"session_id": session_id, "existed": _end(server, session_id)})
            except Refused as refused:
                done = f" {len(ended)} of {len(wanted)} were ended before." if ended else ""
                raise Refused(refused.code, f"{refused}{done}", sessions=ended) from None
            if not as_json:
                sys.stdout.write(f"{session_id}  {'ended' if ended[-1]['existed'] else 'did not exist'}\n")
    if as_json:
        print_json("sessions end", {"sessions": ended})
    return DONE


def _listed(server: Server, limit: int | None) -> tuple[list[Item], bool]:
    """Sessions, each once though pages may repeat, and whether there are more."""
    found: dict[str, Item] = {}
    cursor: str | None = None
    while True:
        room = PAGE if limit is None else min(PAGE, limit - len(found))
        page = server.get("/sessions", limit=room, **({} if cursor is None else {"cursor": cursor}))
        items, cursor = page.get("sessions"), page.get("next_cursor")
        if not isinstance(items, list):
            raise Refused(UNREACHABLE, f"What answers at {server.url} lists no sessions. Check the URL.")
        for item in items:
            found.setdefault(item["session_id"], item)
        if cursor is None or (limit is not None and len(found) >= limit):
            break
    kept = list(found.values())[:limit]
    return kept, cursor is not None or len(kept) < len(found)


def _looks(server: Server, session_id: str, every_s: float, show: Show, last: Item) -> Iterator[Item]:
    """The session each time that it has changed; ends with it, raises Unreachable where nobody answers for long."""
    away_since: float | None = None
    while True:
        time.sleep(every_s)
        try:
            item = server.session(session_id)
        except NoSession:
            return
        except Unreachable as away:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > AWAY_S:
                raise
            show(last, str(away))
            continue
        if away_since is not None or _place(item) != _place(last):
            away_since = None
            yield item
        last = item


def _place(item: Item) -> tuple[Any, ...]:
    return tuple(item.get(key) for key in ("episode_id", "step_count", "generation", "attached"))


def _end(server: Server, session_id: str) -> bool:
    """End it; whether there was one: the server's own answer is the same either way."""
    try:
        server.session(session_id)
        existed = True
    except NoSession:
        existed = False
    server.end(session_id)
    return existed


def _confirm(url: str, wanted: list[str]) -> None:
    which = f"session {wanted[0]}" if len(wanted) == 1 else f"{len(wanted)} sessions"
    if not sys.stdin.isatty():
        raise Refused(USAGE, f"Nobody is there to ask whether to end {which}: say --yes.")
    if not typer.confirm(f"End {which} at {url}? Whoever plays there gets an error.", err=True):
        raise Refused(CHECK_FAILED, "Nothing was ended.")


@contextmanager
def _shown(*, as_json: bool) -> Iterator[Show]:
    """Live on a terminal, else a line each time."""
    if as_json:
        yield lambda item, wrong: None if wrong else print_json("sessions watch", {**item, "ended": False})
        return
    console = report.wide_console()
    if not console.is_terminal:
        said: list[str | None] = [None]

        def line(item: Item, wrong: str | None) -> None:
            if wrong is None or wrong != said[0]:
                console.print(wrong or _line(item), soft_wrap=True)
            said[0] = wrong

        yield line
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda item, wrong: live.update(_details(item, wrong), refresh=True)


def _line(item: Item) -> str:
    episode = report.plain(item["episode_id"] or "no episode")
    return f"step {_count(item['step_count'])}  {_attached(item)}  generation {_count(item['generation'])}  {episode}"


def _details(item: Item, wrong: str | None = None) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (
        ("session", item["session_id"]),
        ("episode", report.plain(item["episode_id"] or "none yet")),
        ("step", _count(item["step_count"])),
        ("generation", _count(item["generation"])),
        ("socket", _attached(item)),
        ("expires", _expires(item)),
    ):
        table.add_row(name, value)
    if wrong:
        table.add_row("", wrong, style="red")
    return table


def _table(items: list[Item], width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    longest = max(len("session"), *(len(item["session_id"]) for item in items))
    # The id is what is copied from here: the episode's name is cut before it.
    table.add_column("session", overflow="fold", width=min(longest, max(_SHORTEST_ID, width - _ROOM_BESIDE_ID)))
    table.add_column("episode", overflow="ellipsis")
    table.add_column("step", justify="right", no_wrap=True)
    table.add_column("gen.", justify="right", no_wrap=True)
    table.add_column("socket", no_wrap=True)
    table.add_column("expires", no_wrap=True)
    for item in items:
        table.add_row(
            item["session_id"],
            report.plain(item["episode_id"] or "-"),
            _count(item["step_count"]),
            _count(item["generation"]),
            _attached(item),
            _expires(item),
        )
    return table


def _count(number: int | None) -> str:
    """A number; what a newer release wrote this one's server cannot read."""
    return "?" if number is None else f"{number:,}"


def _attached(item: Item) -> str:
    return "?" if item["attached"] is None else "attached" if item["attached"] else "none"


def _expires(item: Item) -> str:
    if item["attached"] or item["expires_in_s"] is None:
        return "-"
    return f"in {report.in_time(item['expires_in_s'])}"
