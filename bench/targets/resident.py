"""F: what a step costs with a million sessions resident in one Redis, against a thousand; and what one weighs there.

Two pools, each a Redis with the settings of `deploy` and a worker: one keeps a thousand sessions, the other grows to a
million. They are measured in turn, so that whatever slows the machine slows both. Steps are taken on sockets, whose
sessions are a few and always the same, and over HTTP on sessions taken at random from all of them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median as middle

from redis import Redis

from bench import seeding
from bench.contestants import everysec_redis
from bench.targets import Check, Options, Result, Series, Table, Target, ratio
from metagame.cli import processes
from metagame.load import Fleet, Play, Sockets
from metagame.load.usage import cpu_s

COST_LIMIT = 1.1
MADE_LIMIT_BYTES, STEPPED_LIMIT_BYTES = 500.0, 750.0
ON_SOCKETS, OVER_HTTP = "sockets", "HTTP, sessions at random"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of it; a test does with less."""

    few: int = 1000
    sizes: tuple[int, ...] = (1000, 10_000, 100_000, 1_000_000)
    rounds_between: int = 3
    """At all sizes but the last, which are only drawn."""
    weighed: int = 20_000
    sockets: int = 64
    steps: int = 400
    """Of each socket in a round."""
    http_steps: int = 8000
    samples: int = 200
    """Copies that are read back through the worker."""


@dataclass(slots=True)
class Pool:
    """A Redis, a worker, a fleet on it, and what was measured, in µs of CPU time a step of worker and Redis."""

    redis: Redis
    pids: tuple[int, int]
    port: int
    fleet: Fleet
    scale: Scale
    sample: str = ""
    sessions: int = 0
    us: dict[str, list[float]] = field(default_factory=lambda: {ON_SOCKETS: [], OVER_HTTP: []})

    def grow(self, count: int) -> None:
        """Have this many copies of one session, and see that they are sessions."""
        self.sample = self.sample or asyncio.run(seeding.make_sample(self.port))
        seeding.copy(self.redis, self.sample, self.sessions, count)
        self.sessions = count
        asyncio.run(self._step_at_random(self.scale.samples))

    def open(self) -> None:
        """Open the fleet's sockets."""
        opened = self.fleet.open()
        if opened.errors.count:
            message = f"sockets did not open: {opened.errors.texts}"
            raise RuntimeError(message)

    def measure(self) -> None:
        """One round, both ways."""
        before = self._cpu_s()
        played = self.fleet.play(Play(steps=self.scale.steps))
        if played.errors.count or played.unsent:
            message = f"steps failed: {played.errors.texts}"
            raise RuntimeError(message)
        self.us[ON_SOCKETS].append((self._cpu_s() - before) / played.steps * 1e6)
        before = self._cpu_s()
        asyncio.run(self._step_at_random(self.scale.http_steps))
        self.us[OVER_HTTP].append((self._cpu_s() - before) / self.scale.http_steps * 1e6)

    async def _step_at_random(self, steps: int) -> None:
        names = [seeding.copied_name(random.randrange(self.sessions)) for _ in range(steps)]  # noqa: S311 - spreads load

        async def step(session: seeding.Session, number: int) -> None:
            session.name = names[number]
            await session.step()

        await seeding.side_by_side(self.port, steps, step)

    def _cpu_s(self) -> float:
        return sum(map(cpu_s, self.pids))


@dataclass(frozen=True, slots=True)
class Weight:
    """Bytes of Redis' memory a session, its place and requests remembered included."""

    made: float
    stepped: float


def measure(options: Options, scale: Scale = Scale()) -> Result:
    """Weigh a session, then grow one of two pools and measure both at each size."""
    with ExitStack() as started:
        pools = [started.enter_context(pool(options.folder / name, scale)) for name in ("few", "many")]
        few, many = pools
        weight = weigh(many)
        options.say(f"{scale.weighed:,} sessions weighed")
        few.grow(scale.few)
        for one in pools:
            one.open()
        seeded_s = 0.0
        drawn: dict[str, list[tuple[float, float]]] = {ON_SOCKETS: [], OVER_HTTP: []}
        for size in scale.sizes:
            began = time.monotonic()
            many.grow(size)
            seeded_s += time.monotonic() - began
            for one in pools:
                one.us = {way: [] for way in one.us}
            for _ in range(options.rounds if size == scale.sizes[-1] else min(scale.rounds_between, options.rounds)):
                for one in pools:
                    one.measure()
            for way, points in drawn.items():
                points.append((size, middle(many.us[way])))
            options.say(f"{size:,} sessions")
        memory_bytes = seeding.used_bytes(many.redis)
    return _result(few, many, weight, drawn, (seeded_s, memory_bytes))


def weigh(one: Pool) -> Weight:
    """Make sessions as clients do, weigh them, have each make a step, weigh them again, and clear them away."""
    asyncio.run(seeding.make_sample(one.port))  # what the pool itself needs is there
    names: list[str] = []

    async def make(session: seeding.Session, _: int) -> None:
        await session.make()
        names.append(session.name)

    async def step(session: seeding.Session, number: int) -> None:
        session.name = names[number]
        await session.reset()
        await session.step()

    before = seeding.used_bytes(one.redis)
    asyncio.run(seeding.side_by_side(one.port, one.scale.weighed, make))
    made = seeding.used_bytes(one.redis)
    asyncio.run(seeding.side_by_side(one.port, one.scale.weighed, step))
    stepped = seeding.used_bytes(one.redis)
    one.redis.flushall()
    return Weight((made - before) / one.scale.weighed, (stepped - before) / one.scale.weighed)


@contextmanager
def pool(folder: Path, scale: Scale) -> Iterator[Pool]:
    """A running pool with room for all."""
    folder.mkdir()
    places = 2 * max(*scale.sizes, scale.weighed)
    with (
        everysec_redis(folder) as server,
        processes.worker("worker", folder, server.url, METAGAME_MAX_SESSIONS=str(places)) as worker,
        Fleet(Sockets(addresses=(("127.0.0.1", worker.port),), count=scale.sockets)) as fleet,
        Redis.from_url(server.url) as redis,
    ):
        yield Pool(redis, (worker.process.pid, server.process.pid), worker.port, fleet, scale)


def _result(
    few: Pool, many: Pool, weight: Weight, drawn: dict[str, list[tuple[float, float]]], seeded: tuple[float, int]
) -> Result:
    seeded_s, memory_bytes = seeded
    return Result(
        checks=(
            *[
                ratio(
                    f"CPU per step with {many.sessions:,} sessions to {few.sessions:,}: {way}",
                    many.us[way],
                    few.us[way],
                    limit=COST_LIMIT,
                )
                for way in drawn
            ],
            Check("Redis memory of a session that was made", weight.made, MADE_LIMIT_BYTES, "bytes"),
            Check("Redis memory of a session with an answer kept", weight.stepped, STEPPED_LIMIT_BYTES, "bytes"),
        ),
        table=Table(
            tuple(f"{way} µs" for way in drawn),
            tuple(
                (f"{size:,} sessions", tuple(f"{drawn[way][number][1]:.0f}" for way in drawn))
                for number, size in enumerate(many.scale.sizes)
            ),
        ),
        notes=(f"Redis held {memory_bytes / 1e9:.2f} GB at the end; filling it took {seeded_s:.0f} s.",),
        series=tuple(
            Series("cost-against-sessions", way, "sessions resident", "CPU µs a step", tuple(points))
            for way, points in drawn.items()
        ),
        figures={"few_us": few.us, "many_us": many.us, "drawn": drawn, "redis_bytes": memory_bytes},
    )


TARGETS = (Target("F", "Cost of a step with 1,000,000 sessions", measure, seconds=300),)
