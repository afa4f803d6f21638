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
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self
from uuid import uuid4

from redis import Redis

from bench.haproxy import balancer
from bench.load import MESSAGE, Load, Socket, WrongAnswer, frame_with_request_id, open_sockets, step_all
from bench.usage import cpu_s, resident_bytes
from metagame.cli import processes

SCHEMA_VERSION = 1
SESSIONS = 10_000
"""Sessions made to weigh one in Redis."""
HTTP_CONNECTIONS = 32
STEP = {"action": {"message": MESSAGE}}
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
        redis = started.enter_context(processes.redis(folder, appendfsync="always"))
        # A place for each session that is weighed and each socket that is opened.
        worker = started.enter_context(
            processes.worker("worker", folder, redis.url, METAGAME_MAX_SESSIONS=str(2 * SESSIONS))
        )
        front = started.enter_context(balancer(folder, [worker.port]))
        pids = Pids(worker.process.pid, redis.process.pid, front.process.pid)
        costs = asyncio.run(_measure(pids, front.port, redis.url, options))
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


async def _measure(pids: Pids, port: int, redis_url: str, options: argparse.Namespace) -> Costs:
    worker_idle = resident_bytes(pids.worker)
    # First of all: later on, memory that earlier work has freed would hold them.
    sockets = await _weigh_socket(pids, port, options.idle_sockets)
    session = await _weigh_session(port, redis_url)
    steps = await _per_step(pids, options.rounds, lambda: _socket_round(port, options.steps))
    http = await _per_step(pids, options.rounds, lambda: _http_round(port, options.steps))
    return Costs(*steps, *http, *sockets, session, worker_idle)


async def _weigh_socket(pids: Pids, port: int, count: int) -> tuple[float, float, float, float, float]:
    """An open socket with a session: CPU time in µs a second of each part, bytes of worker and balancer."""
    load = Load(port, _path(), frame_with_request_id)
    warm = await open_sockets(load, 64)
    before = resident_bytes(pids.worker), resident_bytes(pids.balancer)
    opened = await open_sockets(Load(port, _path(), frame_with_request_id), count)
    after = resident_bytes(pids.worker), resident_bytes(pids.balancer)
    began = pids.cpu_s()
    await asyncio.sleep(QUIET_S)
    worker_us, redis_us, balancer_us = [
        (now - was) / QUIET_S / len(warm + opened) * 1e6 for now, was in zip(pids.cpu_s(), began, strict=True)
    ]
    for socket in warm + opened:
        socket.close()
    return worker_us, redis_us, balancer_us, (after[0] - before[0]) / count, (after[1] - before[1]) / count


async def _per_step(
    pids: Pids, rounds: int, play: Callable[[], Awaitable[Callable[[], Awaitable[int]]]]
) -> tuple[float, float, float]:
    """CPU time a step in µs of worker, Redis and balancer: medians over the rounds."""
    found: list[list[float]] = []
    for _ in range(rounds):
        steps_of = await play()
        before = pids.cpu_s()
        steps = await steps_of()
        found.append([(now - was) / steps * 1e6 for now, was in zip(pids.cpu_s(), before, strict=True)])
    worker, redis, balancer_ = [statistics.median(column) for column in zip(*found, strict=True)]
    return worker, redis, balancer_


async def _socket_round(port: int, steps: int) -> Callable[[], Awaitable[int]]:
    load = Load(port, _path(), frame_with_request_id)
    opened: list[Socket] = await open_sockets(load, 64)
    await step_all(load, opened, 1, _WARM_UP_STEPS)

    async def measured() -> int:
        try:
            return len(await step_all(load, opened, _WARM_UP_STEPS + 1, steps))
        finally:
            for socket in opened:
                socket.close()

    return measured


async def _http_round(port: int, steps: int) -> Callable[[], Awaitable[int]]:
    connections = [await Connection.to(port) for _ in range(HTTP_CONNECTIONS)]
    await asyncio.gather(*[one.post("reset", {}) for one in connections])

    async def play(one: Connection) -> None:
        for _ in range(steps):
            await one.post("step", STEP)

    async def measured() -> int:
        await asyncio.gather(*[play(one) for one in connections])
        for one in connections:
            one.close()
        return len(connections) * steps

    return measured


async def _weigh_session(port: int, redis_url: str) -> float:
    """Bytes of Redis' memory a session that has taken a step, its place in the pool included."""

    async def make(share: int) -> None:
        one = await Connection.to(port)
        for _ in range(share):
            one.session = uuid4().hex
            await one.post("reset", {})
            await one.post("step", STEP)
        one.close()

    with Redis.from_url(redis_url) as redis:
        before = _used(redis)
        share = SESSIONS // HTTP_CONNECTIONS
        await asyncio.gather(*[make(share) for _ in range(HTTP_CONNECTIONS)])
        return (_used(redis) - before) / (share * HTTP_CONNECTIONS)


class Connection:
    """A kept-alive HTTP connection that posts to one session at a time, in a few lines, so that it costs little."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.session = uuid4().hex
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, port: int) -> Self:
        """Connected to a loopback port."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def post(self, verb: str, body: object) -> None:
        """Post and read the answer; raises WrongAnswer unless it is an observation."""
        content = json.dumps(body)
        head = f"POST /sessions/{self.session}/{verb} HTTP/1.1\r\nHost: pool\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n{content}".encode())
        answered = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        answer = await self._reader.readexactly(int(answered.partition("content-length:")[2].split("\r\n")[0]))
        if b'"observation":' not in answer:
            raise WrongAnswer(answer.decode(errors="replace"))

    def close(self) -> None:
        """Drop the connection."""
        self._writer.close()


def _used(redis: Redis) -> int:
    info = redis.info("memory")
    assert isinstance(info, dict)  # noqa: S101 - redis-py types it as awaitable too
    return int(info["used_memory"])


def _path() -> str:
    return f"/sessions/{uuid4().hex}-{{socket}}/ws"


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
