"""`metagame demo`: parallel episodes on a server of its own, on any server, or on one that loses a worker.

Starts and stops what it needs, runs the episodes and judges them by their transcripts.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.console import Console

from metagame.cli import CHECK_FAILED, DONE, UNREACHABLE, USAGE, episodes, processes, report
from metagame.cli.balancer import Balancer
from metagame.client.http import HttpTransport
from metagame.client.transport import Address, ConnectionLost, parse_base_url
from metagame.errors import InvalidRequest, MetaGameError, SessionLost
from metagame.wire.requests import StateRequest

SCHEMA_VERSION = 1
_ANSWER_TIMEOUT_S = 10.0
"""Longer than a server waits for its store."""
_NO_REDIS = "--crash needs redis-server on this machine: apt-get install redis-server, or brew install redis"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run; `steps` are per episode."""

    episodes: int
    steps: int
    as_json: bool


def demo(plan: Plan, url: str | None) -> int:
    """Run on a server of its own, or on the one at `url`; returns the exit code."""
    console = _console(plan)
    if url is not None:
        return _on(url.rstrip("/"), plan, console)
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="metagame-demo-")))
        try:
            child = started.enter_context(processes.worker("worker", folder))
        except processes.StartFailed as failed:
            return _fail(plan, UNREACHABLE, f"The server did not start:\n{failed}")
        return _on(f"http://127.0.0.1:{child.port}", plan, console, own=True)


def crash_demo(plan: Plan) -> int:
    """Run on two workers and a Redis of its own, and kill one worker half way; returns the exit code."""
    if not processes.has_redis():
        return _fail(plan, USAGE, _NO_REDIS)
    console = _console(plan)
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="metagame-demo-")))
        try:
            redis_url = started.enter_context(processes.redis(folder)).url
            workers = [started.enter_context(processes.worker(f"worker-{n}", folder, redis_url)) for n in (1, 2)]
        except processes.StartFailed as failed:
            return _fail(plan, UNREACHABLE, f"A server did not start:\n{failed}")
        console.print("Two workers and a Redis run; a TCP balancer here leads to either worker.")
        found = asyncio.run(_run_and_kill(workers, plan, console))
    rows = [
        ("sockets dropped by the kill", f"{found.dropped}"),
        ("sockets resumed", f"{found.resumed}"),
        ("steps lost", f"{found.lost}"),
        ("steps repeated", f"{found.repeated}"),
    ]
    passed = not found.errors and not found.lost and not found.repeated and found.dropped > 0
    _show(plan, console, found, rows, passed=passed)
    if found.dropped == 0:
        console.print("The kill dropped no socket, so this run shows nothing. Try more --steps.", style="red")
    if passed:
        report.print_next_steps(console)
    return DONE if passed else CHECK_FAILED


def _on(base_url: str, plan: Plan, console: Console, *, own: bool = False) -> int:
    try:
        address, _ = parse_base_url(base_url)
    except InvalidRequest as wrong:
        return _fail(plan, USAGE, str(wrong))
    try:
        asyncio.run(_ask_for_nothing(address))
    except ConnectionLost as lost:
        message = f"No server answers at {address.http}: {lost}. `metagame serve` starts one on port 8000."
        return _fail(plan, UNREACHABLE, message)
    except MetaGameError as error:
        return _fail(plan, UNREACHABLE, f"{address.http} is not fit for a run. {error}")
    found = asyncio.run(_run(base_url, plan, console))
    passed = not found.errors
    _show(plan, console, found, [], passed=passed)
    if passed and own:
        report.print_next_steps(console)
    return DONE if passed else CHECK_FAILED


async def _ask_for_nothing(address: Address) -> None:
    """Ask after a session that is not there: whoever answers so has a game and its store at hand."""
    transport = HttpTransport(address, connect_timeout_s=_ANSWER_TIMEOUT_S, message_timeout_s=_ANSWER_TIMEOUT_S)
    try:
        await transport.exchange(uuid4().hex, StateRequest())
    except SessionLost:
        return
    finally:
        await transport.close()


async def _run(base_url: str, plan: Plan, console: Console) -> episodes.Report:
    progress = episodes.Progress(plan.episodes * plan.steps)
    console.print(f"{_size(plan)} at once on {base_url}", highlight=False)
    async with report.shown(progress, console):
        return await episodes.run(base_url, episodes=plan.episodes, steps=plan.steps, progress=progress)


async def _run_and_kill(workers: list[processes.Child], plan: Plan, console: Console) -> episodes.Report:
    progress = episodes.Progress(plan.episodes * plan.steps)

    async def kill_one_half_way() -> None:
        await progress.half_way.wait()
        workers[0].kill()
        console.print("Half way: one of two workers killed with SIGKILL.")

    async with Balancer([worker.port for worker in workers]).listening() as base_url:
        killer = asyncio.ensure_future(kill_one_half_way())
        try:
            console.print(f"{_size(plan)} at once", highlight=False)
            async with report.shown(progress, console):
                return await episodes.run(base_url, episodes=plan.episodes, steps=plan.steps, progress=progress)
        finally:
            killer.cancel()


def _size(plan: Plan) -> str:
    counts = ((plan.episodes, "episode"), (plan.steps, "step"))
    return " of ".join(f"{count} {name}{'' if count == 1 else 's'}" for count, name in counts)


def _show(
    plan: Plan,
    console: Console,
    found: episodes.Report,
    rows: list[tuple[str, str]],
    *,
    passed: bool,
) -> None:
    if plan.as_json:
        result = asdict(found) | {"steps_per_s": round(found.steps_per_s, 1)}
        _print_json({"passed": passed} | result)
        return
    report.print_table(
        console,
        "Every answer checked" if passed else "Something is wrong",
        [
            ("episodes", f"{found.episodes}"),
            ("steps", f"{found.steps}"),
            ("steps/s", f"{found.steps_per_s:,.0f}"),
            ("p50", f"{found.p50_ms:.1f} ms"),
            ("p99", f"{found.p99_ms:.1f} ms"),
            ("errors", f"{len(found.errors)}"),
            *rows,
        ],
    )
    report.print_errors(console, found.errors)


def _fail(plan: Plan, code: int, message: str) -> int:
    sys.stderr.write(message + "\n")
    if plan.as_json:
        _print_json({"passed": False, "error": message})
    return code


def _print_json(fields: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"schema_version": SCHEMA_VERSION, "command": "demo"} | fields) + "\n")


def _console(plan: Plan) -> Console:
    # A terminal breaks long lines anywhere, so they are broken between words; a pipe gets them whole.
    return Console(quiet=plan.as_json, soft_wrap=not sys.stdout.isatty())
