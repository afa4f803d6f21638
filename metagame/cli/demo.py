"""`metagame demo`: parallel episodes on a server of its own, on any server, or on one that loses a worker.

Starts and stops what it needs, runs the episodes and judges them by their transcripts.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from rich.console import Console

from metagame.cli import CHECK_FAILED, DONE, UNREACHABLE, USAGE, episodes, processes, report
from metagame.cli.balancer import Balancer
from metagame.cli.outcome import Refused, print_json
from metagame.cli.target import NoControl, NoSession, Server, Target, target_of

COMMAND = "demo"
_NO_REDIS = "--crash needs redis-server on this machine: apt-get install redis-server, or brew install redis"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run; `steps` are per episode."""

    episodes: int
    steps: int
    as_json: bool


def demo(plan: Plan, url: str | None, api_key: str | None = None) -> int:
    """Run on a server of its own, or on the one at `url`; returns the exit code."""
    console = report.console_of(as_json=plan.as_json)
    if url is not None:
        return _on(target_of(url, api_key), plan, console)
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="metagame-demo-")))
        try:
            child = started.enter_context(processes.worker("worker", folder))
        except processes.StartFailed as failed:
            raise Refused(UNREACHABLE, f"The server did not start:\n{failed}") from None
        return _on(target_of(f"http://127.0.0.1:{child.port}"), plan, console, own=True)


def crash_demo(plan: Plan) -> int:
    """Run on two workers and a Redis of its own, and kill one worker half way; returns the exit code."""
    if not processes.has_redis():
        raise Refused(USAGE, _NO_REDIS)
    console = report.console_of(as_json=plan.as_json)
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="metagame-demo-")))
        try:
            redis_url = started.enter_context(processes.redis(folder)).url
            workers = [started.enter_context(processes.worker(f"worker-{n}", folder, redis_url)) for n in (1, 2)]
        except processes.StartFailed as failed:
            raise Refused(UNREACHABLE, f"A server did not start:\n{failed}") from None
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


def _on(target: Target, plan: Plan, console: Console, *, own: bool = False) -> int:
    _ask_for_nothing(target)
    found = asyncio.run(_run(target.url, target.headers, plan, console))
    passed = not found.errors
    _show(plan, console, found, [], passed=passed)
    if passed and own:
        report.print_next_steps(console)
    return DONE if passed else CHECK_FAILED


def _ask_for_nothing(target: Target) -> None:
    """Ask after a session that is not there: whoever says so has a game and its store at hand. Raises Refused."""
    with Server(target) as server, suppress(NoSession, NoControl):
        server.get(f"/sessions/{uuid4().hex}/state")


async def _run(base_url: str, headers: Mapping[str, str], plan: Plan, console: Console) -> episodes.Report:
    progress = episodes.Progress(plan.episodes * plan.steps)
    console.print(f"{_size(plan)} at once on {base_url}", highlight=False)
    async with report.shown(progress, console):
        return await episodes.run(
            base_url, episodes=plan.episodes, steps=plan.steps, progress=progress, headers=headers
        )


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
        print_json(COMMAND, {"passed": passed} | result)
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
