"""The planned faults carried out on a pool of processes, and the log of what really happened."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from chaos.hits import Strike
from chaos.lines import Line, Moment
from chaos.pool import ProcessPool, Worker, ready
from chaos.redis_nodes import Node, hang, wake
from chaos.schedule import ASLEEP, Fault

ROLL_DELAY_S = 0.1
"""Between balancer and worker while it is told to leave: frames are under way when it closes their sockets."""
_BETWEEN_CUTS_S = 0.5

Progress = Callable[[str], None]


@dataclass(slots=True)
class Blow:
    """A fault carried out: its instants in loop time, what is worth noting, and `by_s` as in a Strike."""

    instants_s: list[float]
    note: str = ""
    by_s: float | None = None


class Inflicts(Protocol):
    """What carries out one fault."""

    async def inflict(self, fault: Fault) -> Blow:
        """Do it, and return once all is well again."""


class Faults:
    """Carries a plan out; `strikes` is what happened so far."""

    def __init__(self, inflicts: Inflicts, clock: Callable[[], float], say: Progress) -> None:
        self.strikes: list[Strike] = []
        self._inflicts = inflicts
        self._clock = clock
        self._say = say

    async def run(self, plan: list[Fault]) -> None:
        """One fault after the other, long pauses beside them; returns when all are over."""
        async with asyncio.TaskGroup() as beside:
            for fault in plan:
                await asyncio.sleep(max(0.0, fault.at_s - self._clock()))
                if fault.long:
                    beside.create_task(self._one(fault))
                    await asyncio.sleep(0)
                else:
                    await self._one(fault)

    async def _one(self, fault: Fault) -> None:
        loop = asyncio.get_running_loop()
        origin_s = loop.time() - self._clock()
        began_s = self._clock()
        blow = await self._inflicts.inflict(fault)
        ended_s = self._clock()
        target, note = ",".join(fault.targets), blow.note
        at_s = tuple(instant - origin_s for instant in blow.instants_s)
        by_s = 0.0 if blow.by_s is None else blow.by_s - origin_s
        self.strikes.append(Strike(fault.kind, target, min([began_s, *at_s]), ended_s, at_s, note, by_s))
        self._say(
            f"{ended_s:6.1f} s  {fault.kind} {target} over after {ended_s - began_s:.1f} s{': ' * bool(note)}{note}"
        )


class OnProcesses:
    """Faults by signals and lines."""

    def __init__(self, pool: ProcessPool) -> None:
        self._pool = pool
        self._held = {name: asyncio.Lock() for name in pool.workers}
        """Whoever acts on a worker has it to himself, also where the plan runs late."""
        self._verbs: dict[str, Callable[[Fault], Awaitable[Blow]]] = {
            "kill": self._kill,
            "pause": self._pause,
            "roll": self._roll,
            "redis-restart": self._redis_restart,
            "failover": self._failover,
            "cut": self._cut,
            "delay": self._delay,
            "balancer-restart": self._balancer_restart,
        }

    async def inflict(self, fault: Fault) -> Blow:
        """Do it, and return once all is well again."""
        return await self._verbs[fault.kind](fault)

    async def _kill(self, fault: Fault) -> Blow:
        name = fault.targets[0]
        worker = self._pool.workers[name]
        async with self._held[name]:
            # A request's end shows at a socket's client; one over HTTP the balancer may mend unseen.
            first = not fault.after_ms
            after_s = fault.after_ms / 1000
            struck = await worker.line.strike("passes", worker.process.kill, on_sockets=first, after_s=after_s)
            await asyncio.sleep(fault.for_s)
            await self._back(worker)
        return Blow([struck])

    async def _pause(self, fault: Fault) -> Blow:
        name = fault.targets[0]
        worker = self._pool.workers[name]
        async with self._held[name]:
            stop = lambda: worker.process.signal(signal.SIGSTOP)  # noqa: E731 - passed on twice
            struck = await worker.line.strike("passes", stop, after_s=fault.after_ms / 1000)
            try:
                await asyncio.sleep(fault.for_s)
            finally:
                worker.process.signal(signal.SIGCONT)
            await ready(worker.process.port)
        return Blow([struck], "longer than a lease" if fault.long else "")

    async def _roll(self, fault: Fault) -> Blow:
        struck, codes = [], []
        for name in fault.targets:
            worker = self._pool.workers[name]
            async with self._held[name]:
                worker.line.delay_s = ROLL_DELAY_S
                leave = lambda process=worker.process: process.signal(signal.SIGTERM)  # noqa: E731 - one a worker
                struck.append(await worker.line.strike("arrives", leave, on_sockets=True))
                await asyncio.sleep(2 * ROLL_DELAY_S)
                worker.line.delay_s = 0.0
                codes.append(await worker.process.gone())
                await self._back(worker)
        return Blow(struck, "" if not any(codes) else f"exit codes {codes}")

    async def _redis_restart(self, fault: Fault) -> Blow:
        node = await self._pool.redis.primary()
        struck = await node.line.strike("passes", node.process.kill, after_s=fault.after_ms / 1000)
        await node.process.start()
        await self._redis_well()
        stayed = await self._pool.redis.primary() is node
        return Blow([struck], "before Sentinel reacted" if stayed else "Sentinel failed over")

    async def _failover(self, fault: Fault) -> Blow:
        redis = self._pool.redis
        node = await redis.primary()
        killed = fault.how == "kill"
        down = node.process.kill if killed else lambda: hang(node)
        struck = await node.line.strike("passes", down, after_s=fault.after_ms / 1000)
        try:
            await redis.promoted(redis.other(node))
            promoted_s = asyncio.get_running_loop().time() - struck
        finally:
            if not killed:
                wake(node)
        if killed:
            await node.process.start()
        await self._redis_well()
        return Blow([struck], f"{redis.other(node).process.name} promoted after {promoted_s:.1f} s")

    async def _cut(self, fault: Fault) -> Blow:
        name, *sleeper = fault.targets
        moments: dict[str, Moment] = {"request": "arrives", "answer": "answered"}
        struck = []
        async with self._held[name]:
            for where in fault.how.split():
                if where == ASLEEP:
                    struck.append(self._cut_sleeper(sleeper[0]))
                    await asyncio.sleep(_BETWEEN_CUTS_S)
                    continue
                place, _, what = where.partition("/")
                line = await self._line(place, name)
                # A request over HTTP the balancer sends again, and Redis' line the worker opens again, both unseen:
                # on a socket it shows.
                on_sockets = (place, what) == ("worker", "request")
                struck.append(await line.strike(moments[what], line.cut, on_sockets=on_sockets))
                await asyncio.sleep(_BETWEEN_CUTS_S)
            await self._redis_well()
        return Blow(struck)

    def _cut_sleeper(self, name: str) -> float:
        """Whoever holds that worker is the pause that it sleeps through; no step goes by to wait for."""
        self._pool.workers[name].line.cut()
        return asyncio.get_running_loop().time()

    async def _delay(self, fault: Fault) -> Blow:
        place, _, by_ms, _ = fault.how.split()
        name = fault.targets[0]
        async with self._held[name]:
            line = await self._line(place, name)
            slow = lambda: setattr(line, "delay_s", int(by_ms) / 1000)  # noqa: E731 - a statement as a value
            struck = await line.strike("passes", slow)
            await asyncio.sleep(fault.for_s)
            line.delay_s = 0.0
        return Blow([struck])

    async def _balancer_restart(self, fault: Fault) -> Blow:
        balancer = self._pool.balancer
        line = next(iter(worker.line for name, worker in self._pool.workers.items() if not self._held[name].locked()))
        down = lambda: balancer.signal(signal.Signals[fault.how])  # noqa: E731 - as above
        struck = await line.strike("passes", down)
        await balancer.gone()
        await balancer.start()
        await ready(self._pool.port)
        return Blow([struck])

    async def _line(self, place: str, worker: str) -> Line:
        if place == "worker":
            return self._pool.workers[worker].line
        node: Node = await self._pool.redis.primary()
        return node.line

    async def _back(self, worker: Worker) -> None:
        await worker.process.start()
        await ready(worker.process.port)

    async def _redis_well(self) -> None:
        await self._pool.redis.well()
        for name, worker in self._pool.workers.items():
            if not self._held[name].locked():
                await ready(worker.process.port)
