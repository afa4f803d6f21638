"""`python -m bench.sizing`: what one step and one session cost each part of a pool, and what pools need.

Starts a Redis with the AOF that compose uses, one worker and the balancer of `deploy/haproxy`, and
reads CPU time and memory of each from outside. From these it reckons the table of the runbook:
what is measured and what is reckoned stand apart in the output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from redis import Redis

from bench import contestants, seeding
from bench.haproxy import balancer
from bench.targets import Unmeasured
from metagame.cli import processes
from metagame.load import Fleet, Opened, Play, Played, Sockets
from metagame.load.usage import cpu_s, resident_bytes

SCHEMA_VERSION = 1
SESSIONS = 10_000
"""Sessions made to weigh one in Redis."""
QUIET_S = 16.0
"""Two renewals of each lease at least."""
_WARM_UP_STEPS = 50
BUSY = 0.6
"""The share of a core that a plan uses: the rest is for bursts, and for the others while one is rolled."""
PLANS = ((1_000, 1_000), (10_000, 1_000), (10_000, 10_000), (100_000, 10_000), (1_000_000, 100_000))
"""Sessions at once, and steps a second of all of them together."""


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU time in µs a step, or a second of a quiet socket, whose lease is renewed; memory in bytes."""

    step_worker_us: float
    step_redis_us: float
    step_balancer_us: float
    http_worker_us: float
    http_redis_us: float
    http_balancer_us: float
    quiet_worker_us: float
    quiet_redis_us: float
    quiet_balancer_us: float
    socket_worker_bytes: float
    socket_balancer_bytes: float
    session_redis_bytes: float
    worker_idle_bytes: float


@dataclass(frozen=True, slots=True)
class Pids:
    """The processes that are watched."""

    worker: int
    redis: int
    balancer: int

    def cpu_s(self) -> list[float]:
        """CPU time of each so far."""
        return [cpu_s(self.worker), cpu_s(self.redis), cpu_s(self.balancer)]


def main() -> None:
    """Parse, measure, print."""
    options = _options()
    missing = [name for name in ("redis-server", "haproxy") if shutil.which(name) is None]
    if missing:
        print(f"This needs {' and '.join(missing)}: `make test` installs them where apt may.", file=sys.stderr)
        sys.exit(2)
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="metagame-sizing-")))
        redis = started.enter_context(contestants.redis(folder, appendfsync="always"))
        # A place for each session that is weighed and each socket that is opened.
        worker = started.enter_context(
            processes.worker("worker", folder, redis.url, METAGAME_MAX_SESSIONS=str(2 * SESSIONS))
        )
        front = started.enter_context(balancer(folder, [worker.port]))
        pids = Pids(worker.process.pid, redis.process.pid, front.process.pid)
        costs = _measure(pids, front.port, redis.url, options)
    plans = [_plan(costs, sessions, steps_per_s) for sessions, steps_per_s in PLANS]
    if options.json:
        print(json.dumps({"schema_version": SCHEMA_VERSION, "measured": asdict(costs), "reckoned": plans}))
    else:
        _print(costs, plans)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.sizing", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200, help="steps of each of 64 sockets in a round")
    parser.add_argument("--idle-sockets", type=int, default=2_000, help="sockets opened to weigh one")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _measure(pids: Pids, port: int, redis_url: str, options: argparse.Namespace) -> Costs:
    worker_idle = resident_bytes(pids.worker)
    # First of all: later on, memory that earlier work has freed would hold them.
    sockets = _weigh_socket(pids, port, options.idle_sockets)
    session = _weigh_session(port, redis_url)
    steps = _per_step(pids, Sockets(addresses=(("127.0.0.1", port),), count=64), options)
    http = _per_step(pids, Sockets(addresses=(("127.0.0.1", port),), count=32, surface="http"), options)
    return Costs(*steps, *http, *sockets, session, worker_idle)


def _weigh_socket(pids: Pids, port: int, count: int) -> tuple[float, float, float, float, float]:
    """An open socket with a session: CPU time in µs a second of each part, bytes of worker and balancer."""
    addresses = (("127.0.0.1", port),)
    with (
        Fleet(Sockets(addresses=addresses, count=64)) as warm,
        Fleet(Sockets(addresses=addresses, count=count)) as fleet,
    ):
        _whole(warm.open(), 64)
        before = resident_bytes(pids.worker), resident_bytes(pids.balancer)
        _whole(fleet.open(), count)
        after = resident_bytes(pids.worker), resident_bytes(pids.balancer)
        began = pids.cpu_s()
        time.sleep(QUIET_S)
        worker_us, redis_us, balancer_us = (
            (now - was) / QUIET_S / (64 + count) * 1e6 for now, was in zip(pids.cpu_s(), began, strict=True)
        )
    return worker_us, redis_us, balancer_us, (after[0] - before[0]) / count, (after[1] - before[1]) / count


def _per_step(pids: Pids, sockets: Sockets, options: argparse.Namespace) -> tuple[float, float, float]:
    """CPU time a step in µs of worker, Redis and balancer: medians over the rounds."""
    found: list[list[float]] = []
    for _ in range(options.rounds):
        with Fleet(sockets) as fleet:
            _whole(fleet.open(), sockets.count)
            _whole(fleet.play(Play(steps=_WARM_UP_STEPS)), sockets.count * _WARM_UP_STEPS)
            before = pids.cpu_s()
            played = fleet.play(Play(steps=options.steps))
            found.append([(now - was) / played.steps * 1e6 for now, was in zip(pids.cpu_s(), before, strict=True)])
            _whole(played, sockets.count * options.steps)
            fleet.close()
    worker, redis, balancer_ = [statistics.median(column) for column in zip(*found, strict=True)]
    return worker, redis, balancer_


def _weigh_session(port: int, redis_url: str) -> float:
    """Bytes of Redis' memory a session that has taken a step, its place in the pool included."""

    async def work(session: seeding.Session, _: int) -> None:
        await seeding.stepped(session)

    with Redis.from_url(redis_url) as redis:
        before = seeding.used_bytes(redis)
        asyncio.run(seeding.side_by_side(port, SESSIONS, work))
        return (seeding.used_bytes(redis) - before) / SESSIONS


def _whole(found: Opened | Played, expected: int) -> None:
    done = found.count if isinstance(found, Opened) else found.steps
    if done != expected:
        message = f"{done} of {expected}: {'; '.join(found.errors.texts)}"
        raise Unmeasured(message)


def _plan(costs: Costs, sessions: int, steps_per_s: int) -> dict[str, float]:
    """What a pool needs over sockets; a core of each part is used to the share BUSY."""
    cores = [
        (steps_per_s * step_us + sessions * quiet_us) / 1e6 / BUSY
        for step_us, quiet_us in (
            (costs.step_worker_us, costs.quiet_worker_us),
            (costs.step_redis_us, costs.quiet_redis_us),
            (costs.step_balancer_us, costs.quiet_balancer_us),
        )
    ]
    return {
        "sessions": sessions,
        "steps_per_s": steps_per_s,
        "worker_cores": round(cores[0], 1),
        "redis_cores": round(cores[1], 1),
        "balancer_cores": round(cores[2], 1),
        "worker_gb": round(sessions * costs.socket_worker_bytes / 1e9, 2),
        "redis_gb": round(sessions * costs.session_redis_bytes / 1e9, 2),
        "balancer_gb": round(sessions * costs.socket_balancer_bytes / 1e9, 2),
    }


def _print(costs: Costs, plans: list[dict[str, float]]) -> None:
    print("Measured\n")
    for name, value in asdict(costs).items():
        unit = "µs" if name.endswith("_us") else "bytes"
        print(f"  {name.rpartition('_')[0].replace('_', ' '):<20}{value:>14,.1f} {unit}")
    print(f"\nReckoned from it, sockets only, a core used to {BUSY:.0%}\n")
    print("".join(f"{name.replace('_', ' '):>16}" for name in plans[0]))
    for plan in plans:
        print("".join(f"{value:>16,}" for value in plan.values()))


if __name__ == "__main__":
    main()
