"""`python -m bench`: measure and print, as a table or with --json as one object.

Exit codes: 0 done, 1 the ratio is not under --limit, 2 something it needs is not there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from bench.load import Load, frame_with_request_id, open_sockets, step_all, stock_frame
from bench.usage import cpu_s
from metagame.cli import processes

SCHEMA_VERSION = 1
ROOT = Path(__file__).resolve().parents[1]
REFERENCE_PYTHON = Path(os.environ.get("METAGAME_TEST_OPENENV_PYTHON", ROOT / ".venvs/openenv-0.10/bin/python"))
REFERENCE = "OpenEnv 0.10 reference, in memory"
JUDGED = "Redis, AOF everysec, with request_id"
LIMIT = 1.0
QUICK_LIMIT = 1.3
"""Three short rounds scatter: on a busy machine a limit of 1.0 would be a coin toss."""
_WARM_UP_STEPS = 50


@dataclass(slots=True)
class Contestant:
    """One server under one kind of frame, and what each round measured, in µs of CPU time per step."""

    name: str
    load: Load
    server: int
    redis: int | None = None
    server_us: list[float] = field(default_factory=list)
    redis_us: list[float] = field(default_factory=list)
    steps_per_s: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)

    @property
    def total_us(self) -> list[float]:
        """Worker and Redis together, round by round."""
        return [server + redis for server, redis in zip(self.server_us, self.redis_us, strict=True)]

    def ratio_to(self, other: Contestant) -> float:
        """Median of the rounds' ratios: what slows a machine for a while slows both."""
        return statistics.median(ours / theirs for ours, theirs in zip(self.total_us, other.total_us, strict=True))


def main() -> None:
    """Parse, measure, print, judge."""
    options = _options()
    if not REFERENCE_PYTHON.exists() or shutil.which("redis-server") is None:
        sys.exit(_refuse("`make bench` sets up what this needs: redis-server, and OpenEnv 0.10 in its own environment"))
    with ExitStack() as started:
        contestants = _start(started)
        for number in range(options.rounds):
            for contestant in contestants:
                asyncio.run(_measure(contestant, options.sockets, options.steps))
            if not options.json:
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    by_name = {contestant.name: contestant for contestant in contestants}
    ratio = by_name[JUDGED].ratio_to(by_name[REFERENCE])
    passed = ratio < options.limit
    if options.json:
        print(json.dumps(_as_json(contestants, options) | {"ratio": round(ratio, 3), "passed": passed}))
    else:
        _print_table(contestants, options)
        print(f"\n{JUDGED}: {ratio:.2f} of the reference's CPU time per step (limit {options.limit:g})")
    sys.exit(0 if passed else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sockets", type=int, default=64)
    parser.add_argument("--steps", type=int, default=400, help="steps of each socket in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, help=f"the ratio to stay under; {LIMIT:g}, or {QUICK_LIMIT:g} if quick")
    parser.add_argument("--quick", action="store_true", help="3 short rounds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.steps = 3, 100
    if options.limit is None:
        options.limit = QUICK_LIMIT if options.quick else LIMIT
    return options


def _start(started: ExitStack) -> list[Contestant]:
    folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="metagame-bench-")))
    redis = started.enter_context(processes.redis(folder, appendfsync="everysec"))
    port = processes.free_port()
    command = [str(REFERENCE_PYTHON), "-m", "uvicorn", "reference:app", "--app-dir", str(ROOT / "bench")]
    command += ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--log-level", "warning"]
    reference = started.enter_context(processes.child(command, port, folder / "reference.log", dict(os.environ)))
    in_memory = started.enter_context(processes.worker("memory", folder))
    on_redis = started.enter_context(processes.worker("redis", folder, redis.url))
    memory, redis_pid = in_memory.process.pid, redis.process.pid
    session = f"/sessions/{uuid4().hex}-{{socket}}/ws"
    return [
        Contestant(REFERENCE, Load(port, "/ws", stock_frame), reference.process.pid),
        Contestant("in memory, stock frames", Load(in_memory.port, session, stock_frame), memory),
        Contestant("in memory, with request_id", Load(in_memory.port, session, frame_with_request_id), memory),
        Contestant(
            "Redis, AOF everysec, stock frames",
            Load(on_redis.port, session, stock_frame),
            on_redis.process.pid,
            redis_pid,
        ),
        Contestant(JUDGED, Load(on_redis.port, session, frame_with_request_id), on_redis.process.pid, redis_pid),
    ]


async def _measure(contestant: Contestant, sockets: int, steps: int) -> None:
    loop = asyncio.get_running_loop()
    opened = await open_sockets(contestant.load, sockets)
    try:
        await step_all(contestant.load, opened, 1, _WARM_UP_STEPS)
        pids = [contestant.server] + ([contestant.redis] if contestant.redis else [])
        before, began = [cpu_s(pid) for pid in pids], loop.time()
        latencies_ms = await step_all(contestant.load, opened, _WARM_UP_STEPS + 1, steps)
        seconds = loop.time() - began
        used = [(cpu_s(pid) - was) / len(latencies_ms) * 1e6 for pid, was in zip(pids, before, strict=True)]
    finally:
        for socket in opened:
            socket.close()
    contestant.server_us.append(used[0])
    contestant.redis_us.append(used[1] if contestant.redis else 0.0)
    contestant.steps_per_s.append(len(latencies_ms) / seconds)
    contestant.p50_ms.append(statistics.median(latencies_ms))


def _print_table(contestants: list[Contestant], options: argparse.Namespace) -> None:
    print(
        f"CPU time per step: {options.sockets} sockets, a 13-character message,"
        f" medians of {options.rounds} rounds of {options.steps} steps a socket\n"
    )
    print(f"{'':<38}{'server µs':>10}{'redis µs':>10}{'ratio':>8}{'steps/s':>10}{'p50 ms':>8}")
    for one in contestants:
        median = statistics.median
        redis_us = f"{median(one.redis_us):.0f}" if one.redis else "-"
        print(
            f"{one.name:<38}{median(one.server_us):>10.0f}{redis_us:>10}{one.ratio_to(contestants[0]):>8.2f}"
            f"{median(one.steps_per_s):>10.0f}{median(one.p50_ms):>8.1f}"
        )


def _as_json(contestants: list[Contestant], options: argparse.Namespace) -> dict[str, object]:
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "bench",
        "sockets": options.sockets,
        "rounds": options.rounds,
        "steps": options.steps,
        "results": [
            {
                "name": one.name,
                "server_us": round(statistics.median(one.server_us), 1),
                "redis_us": round(statistics.median(one.redis_us), 1) if one.redis else None,
                "total_us": round(statistics.median(one.total_us), 1),
                "ratio": round(one.ratio_to(contestants[0]), 3),
                "steps_per_s": round(statistics.median(one.steps_per_s)),
                "p50_ms": round(statistics.median(one.p50_ms), 2),
            }
            for one in contestants
        ],
    }


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
