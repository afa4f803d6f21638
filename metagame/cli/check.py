"""`metagame check`: a deployment is asked for what it promises, check by check, and maybe played on while it is broken.

The checks themselves stand in `checks`, the playing in `survive`. Every session that is made here is ended here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any
from uuid import uuid4

import httpx
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metagame.cli import CHECK_FAILED, DONE, UNREACHABLE, USAGE, report
from metagame.cli.checks import CHECKS
from metagame.cli.checks.deployment import Deployment
from metagame.cli.checks.openenv import SLOWEST_S
from metagame.cli.checks.verdict import OF_ANOTHER, Check, Failed, Skipped, Verdict, Word
from metagame.cli.outcome import Refused, print_json
from metagame.cli.survive import Survival, survive
from metagame.cli.target import Target, body_of, nobody_answers, refusal, target_of

COMMAND = "check"
_SHOWN: dict[Word, tuple[str, str]] = {"pass": ("pass", "green"), "fail": ("FAIL", "bold red"), "skip": ("skip", "dim")}
_IN_PRODUCTION = "production mode: no HTTP control"
_ANOTHER_GAME = "the server's game is not echo, which this check plays"
_STORE_AWAY = "the server's session store is away, as `ready` tells"
_PAGE = "/web"


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that came out."""

    verdicts: list[Verdict]
    survival: Survival | None
    there: Deployment
    seconds: float
    left: int
    """Sessions that could not be ended."""

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(one.word != "fail" for one in self.verdicts)


def show_names(*, as_json: bool) -> int:
    """Name the checks; returns the exit code."""
    if as_json:
        listed = [{"name": one.name, "group": one.group, "shows": one.shows} for one in CHECKS]
        print_json(COMMAND, {"checks": listed})
        return DONE
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in ("check", "of", "shows that"):
        table.add_column(name, no_wrap=name != "shows that")
    for one in CHECKS:
        table.add_row(one.name, one.group, one.shows)
    report.show(report.wide_console(), table)
    return DONE


def check(url: str, api_key: str | None, only: list[str], survive_s: float | None, *, as_json: bool) -> int:
    """Check the server at this URL; returns the exit code, or raises Refused where there is nothing to check."""
    chosen = _chosen(only)
    target = target_of(url, api_key)
    console = Console(quiet=True) if as_json else report.wide_console()
    found = asyncio.run(_check(target, chosen, survive_s, console))
    if as_json:
        print_json(COMMAND, _as_json(target, found))
    else:
        _show(console, target, found)
    return DONE if found.passed else CHECK_FAILED


def _chosen(only: list[str]) -> tuple[Check, ...]:
    names = [name.strip() for listed in only for name in listed.split(",") if name.strip()]
    known = [one.name for one in CHECKS]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise Refused(USAGE, f"There is no check {name!r}.{hint} `metagame check --list` names them all.")
    return tuple(one for one in CHECKS if not names or one.name in names)


async def _check(target: Target, chosen: tuple[Check, ...], survive_s: float | None, console: Console) -> Found:
    began = time.monotonic()
    there = Deployment(target)
    survival = None
    try:
        await _probe(there)
        if survive_s is not None and not there.echo:
            raise Refused(USAGE, f"--survive plays echo, and {there.url} serves another game.")
        verdicts = []
        for number, one in enumerate(chosen, 1):
            with report.busy(console, f"check {number} of {len(chosen)}: {one.name}"):
                verdicts.append(await _verdict(one, there))
        if survive_s is not None:
            survival = await survive(there, survive_s, console)
            verdicts.append(survival.verdict(ours=there.metagame))
    finally:
        left = await there.close()
    return Found(verdicts, survival, there, time.monotonic() - began, left)


async def _probe(there: Deployment) -> None:
    """Find out whether anybody is there, lets us in, and has HTTP control; raises Refused."""
    try:
        health, state = await there.probe("/health"), await there.probe("/state")
        nobody = await there.probe(f"/sessions/{uuid4().hex}/state")
        schema, ready = await there.probe("/schema"), await there.probe("/ready")
    except httpx.RequestError as lost:
        raise Refused(UNREACHABLE, nobody_answers(there.url, lost)) from None
    for path, response in (("/health", health), ("/state", state)):
        if response.status_code in {401, 403} or response.is_redirect:
            raise refusal(there.target, path, response)
    if health.status_code == httpx.codes.NOT_FOUND and there.url.endswith(_PAGE):
        meant = there.url.removesuffix(_PAGE)
        raise Refused(USAGE, f"{there.url} is the address of a server's page. Did you mean {meant}?")
    if health.status_code == state.status_code == httpx.codes.NOT_FOUND:
        raise refusal(there.target, "/health", health, there=False)
    there.production = state.status_code == httpx.codes.NOT_FOUND
    # Only Metagame knows of sessions, and says so of one that is not there.
    there.metagame = isinstance(body_of(nobody).get("code"), str)
    there.echo = _is_echo(body_of(schema))
    there.store_away = body_of(ready).get("status") == "redis_unavailable"


def _is_echo(schema: Mapping[str, Any]) -> bool:
    """Whether the schema is one of a game that takes a message, or tells nothing."""
    action = schema.get("action")
    required = action.get("required") if isinstance(action, dict) else None
    return not isinstance(required, list) or "message" in required


async def _verdict(one: Check, there: Deployment) -> Verdict:
    why = _why_not(one, there)
    if why is not None:
        return Verdict(one.name, one.group, "skip", why)
    todo = one.todo if there.metagame else OF_ANOTHER[one.group]
    try:
        async with asyncio.timeout(SLOWEST_S):
            remark = await one.run(there)
    except Skipped as skipped:
        return Verdict(one.name, one.group, "skip", str(skipped))
    except Failed as failed:
        return Verdict(one.name, one.group, "fail", str(failed), failed.todo or todo)
    except TimeoutError:
        return Verdict(one.name, one.group, "fail", f"it took longer than {SLOWEST_S:g} s", todo)
    except Exception as odd:  # noqa: BLE001 - whatever a server answers, the other checks go on
        strange = f"an answer of another shape than is due ({type(odd).__name__}: {odd})"
        return Verdict(one.name, one.group, "fail", strange, todo)
    return Verdict(one.name, one.group, "pass", f"{one.shows} ({remark})" if remark else one.shows)


def _why_not(one: Check, there: Deployment) -> str | None:
    """Why the check would find out nothing there, if it would not."""
    if one.control and there.production:
        return _IN_PRODUCTION
    if one.plays and not there.echo:
        return _ANOTHER_GAME
    return _STORE_AWAY if one.plays and there.store_away else None


def _show(console: Console, target: Target, found: Found) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for no_wrap in (True, True, False):
        table.add_column(no_wrap=no_wrap, overflow="fold")
    group = None
    for one in found.verdicts:
        if one.group != group:
            group = one.group
            table.add_row("", Text(group, style="bold"), "")
        word, style = _SHOWN[one.word]
        remark = Text(report.plain(one.remark), style="dim" if one.word == "skip" else "")
        if one.todo is not None:
            remark.append(f"\n→ {one.todo}", style="bold")
        table.add_row(Text(word, style=style), one.name, remark)
    report.show(console, table)
    words = [one.word for one in found.verdicts]
    mode = ", in production mode" if found.there.production else ""
    console.print(
        f"{words.count('pass')} passed, {words.count('fail')} failed, {words.count('skip')} skipped"
        f" at {target.url}{mode} in {report.in_time(found.seconds)}",
        style="bold red" if not found.passed else "bold green",
    )
    if found.left:
        which = "1 session" if found.left == 1 else f"{found.left} sessions"
        console.print(f"{which} of this check could not be ended, and will expire without it.")


def _as_json(target: Target, found: Found) -> dict[str, Any]:
    return {
        "passed": found.passed,
        "url": target.url,
        "server": "metagame" if found.there.metagame else "other",
        "mode": "production" if found.there.production else "simulation",
        "seconds": round(found.seconds, 3),
        "checks": [
            {"name": one.name, "group": one.group, "verdict": one.word, "remark": one.remark, "todo": one.todo}
            for one in found.verdicts
        ],
        "survival": None if found.survival is None else asdict(found.survival),
    }
