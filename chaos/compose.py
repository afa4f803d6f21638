"""The pool as containers: one of docker compose's own making, or the one that COMPOSE_PROJECT_NAME names.

Docker's commands are slow beside a step. So every second time that a kind of fault strikes the balancer is paused
meanwhile: steps that clients have sent are then in flight for certain, although not yet at a worker. The other
times they are wherever they happen to be, in a worker's hands too.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import httpx

from chaos.faults import Blow
from chaos.pool import NotReady, ready
from chaos.processes import clean_environment, fixed_port
from chaos.records import record_key
from chaos.schedule import Fault

ROOT = Path(__file__).resolve().parents[1]
_HELD_S = 0.1
_CUT_S = 1.0
_COMMAND_DEADLINE_S = 240.0
_HEX_OF_KEYS = (
    "local out = {} for i, key in ipairs(KEYS) do local value = redis.call('GET', key)"
    " out[i] = value and (value:gsub('.', function(c) return string.format('%02x', c:byte()) end)) or '-' end"
    " return out"
)


class ComposePool:
    """Services balancer, worker and redis. Its own project is removed with its block, its sessions with it."""

    def __init__(self, workers: int) -> None:
        named = os.environ.get("COMPOSE_PROJECT_NAME")
        self.project = named or f"metagame-chaos-{uuid4().hex[:8]}"
        self.base_url = ""
        self._own = named is None
        self._workers = workers
        self._environment = dict(os.environ) | {"COMPOSE_PROJECT_NAME": self.project}
        if self._own:
            ports = {"PORT": str(fixed_port()), "STATS_PORT": str(fixed_port()), "WORKERS": str(workers)}
            kept = {key: value for key, value in os.environ.items() if key.startswith("DOCKER_")}
            self._environment = clean_environment() | kept | ports | {"COMPOSE_PROJECT_NAME": self.project}

    async def __aenter__(self) -> Self:
        try:
            if self._own:
                await self.compose("up", "--detach", "--wait")
            where = (await self.compose("port", "balancer", "8000")).strip()
            self.base_url = f"http://127.0.0.1:{where.rpartition(':')[2]}"
            await self.ready()
        except BaseException:
            self._down()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._down()

    async def docker(self, *arguments: str) -> str:
        """Run one command; what it wrote. Raises NotReady with that where it fails."""
        return await self.run("docker", *arguments)

    async def compose(self, *arguments: str) -> str:
        """Run one command of docker compose."""
        return await self.run("docker", "compose", *arguments)

    async def run(self, *command: str) -> str:
        """Run a command in the checkout, for the project."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(_COMMAND_DEADLINE_S):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            message = f"{' '.join(command)} failed: {err.decode(errors='replace').strip()[-1000:]}"
            raise NotReady(message)
        return out.decode(errors="replace")

    async def containers(self, service: str) -> list[str]:
        """The service's containers, in an order that stays while they do."""
        return sorted((await self.compose("ps", "--all", "--quiet", service)).split())

    async def ready(self) -> None:
        """Wait until the pool serves."""
        await ready(int(self.base_url.rpartition(":")[2]))

    async def records(self, sessions: list[str]) -> dict[str, bytes | None]:
        """The sessions' raw records; those of a pool that stays are ended afterwards."""
        keys = [record_key(session) for session in sessions]
        command = ("exec", "-T", "redis", "redis-cli", "--raw", "EVAL", _HEX_OF_KEYS, str(len(keys)), *keys)
        lines = (await self.compose(*command)).split()
        return {
            session: None if line == "-" else bytes.fromhex(line) for session, line in zip(sessions, lines, strict=True)
        }

    async def forget(self, sessions: list[str]) -> None:
        """End the sessions of a pool that goes on without us."""
        if self._own:
            return
        async with httpx.AsyncClient(base_url=self.base_url, trust_env=False, timeout=30) as client:
            for session in sessions:
                await client.delete(f"/sessions/{session}")

    def _down(self) -> None:
        """Remove what was made; by a plain call, which nothing interrupts half way."""
        if self._own:
            subprocess.run(
                ["docker", "compose", "down", "--volumes", "--timeout", "1"],  # noqa: S607 - the docker of the PATH, as everywhere
                cwd=ROOT,
                env=self._environment,
                capture_output=True,
                check=False,
                start_new_session=True,
                timeout=_COMMAND_DEADLINE_S,
            )


class OnContainers:
    """Faults by docker's commands."""

    def __init__(self, pool: ComposePool) -> None:
        self._pool = pool
        self._resting: set[str] = set()
        """Workers that a long pause has, which others leave alone."""
        self._striking = asyncio.Lock()
        """One strike at a time: a long pause begins while another fault may."""
        self._times: Counter[str] = Counter()
        """How often each kind has struck."""
        self._verbs: dict[str, Callable[[Fault], Awaitable[Blow]]] = {
            "kill": self._kill,
            "pause": self._pause,
            "roll": self._roll,
            "redis-restart": self._redis_restart,
            "cut": self._cut,
            "balancer-restart": self._balancer_restart,
        }

    async def inflict(self, fault: Fault) -> Blow:
        """Do it, and return once all is well again."""
        return await self._verbs[fault.kind](fault)

    async def _kill(self, fault: Fault) -> Blow:
        worker = await self._worker(fault)
        async with self._striking, self._strike(fault) as blow:
            await self._pool.docker("kill", worker)
        await asyncio.sleep(fault.for_s)
        await self._pool.docker("start", worker)
        await self._pool.ready()
        return blow

    async def _pause(self, fault: Fault) -> Blow:
        worker = await self._worker(fault)
        self._resting.add(worker)
        try:
            async with self._striking, self._strike(fault) as blow:
                await self._pool.docker("pause", worker)
            await asyncio.sleep(fault.for_s)
        finally:
            await self._pool.docker("unpause", worker)
            self._resting.discard(worker)
        await self._pool.ready()
        blow.note = "longer than a lease" if fault.long else ""
        return blow

    async def _roll(self, fault: Fault) -> Blow:
        """By `deploy/roll`, which says not when it strikes; it waits for what is paused to wake."""
        _ = fault
        while self._resting:  # noqa: ASYNC110 - a pause that lasts for seconds
            await asyncio.sleep(0.1)
        said = await self._pool.run("deploy/roll")
        return Blow([], said.strip().splitlines()[-1])

    async def _redis_restart(self, fault: Fault) -> Blow:
        redis = (await self._pool.containers("redis"))[0]
        async with self._striking, self._strike(fault) as blow:
            await self._pool.docker("kill", redis)
            await self._pool.docker("start", redis)
        await self._pool.ready()
        return blow

    async def _cut(self, fault: Fault) -> Blow:
        """Redis leaves its network and comes back, with its name."""
        redis, network = (await self._pool.containers("redis"))[0], f"{self._pool.project}_store"
        async with self._striking, self._strike(fault) as blow:
            await self._pool.docker("network", "disconnect", network, redis)
        await asyncio.sleep(_CUT_S)
        await self._pool.docker("network", "connect", "--alias", "redis", network, redis)
        await self._pool.ready()
        return blow

    async def _balancer_restart(self, fault: Fault) -> Blow:
        balancer = (await self._pool.containers("balancer"))[0]
        async with self._striking:
            async with self._strike(fault) as blow:
                await self._pool.docker("kill", "--signal", fault.how, balancer)
            await self._pool.docker("wait", balancer)
            await self._pool.docker("start", balancer)
        await self._pool.ready()
        return blow

    @asynccontextmanager
    async def _strike(self, fault: Fault) -> AsyncIterator[Blow]:
        """The block is the span in which the fault strikes; every second of a kind finds the balancer paused."""
        loop = asyncio.get_running_loop()
        self._times[fault.kind] += 1
        blow = Blow([loop.time()])
        if self._times[fault.kind] % 2:
            yield blow
        else:
            async with self._balancer_paused():
                yield blow
        blow.by_s = loop.time()

    @asynccontextmanager
    async def _balancer_paused(self) -> AsyncIterator[None]:
        balancer = (await self._pool.containers("balancer"))[0]
        await self._pool.docker("pause", balancer)
        try:
            await asyncio.sleep(_HELD_S)
            yield
        finally:
            # A SIGKILL has ended it, another signal waits until it goes on; one that stays paused is not ready.
            with suppress(NotReady):
                await self._pool.docker("unpause", balancer)

    async def _worker(self, fault: Fault) -> str:
        workers = await self._pool.containers("worker")
        number = int(fault.targets[0].removeprefix("w")) - 1
        chosen = workers[number % len(workers)]
        return next(one for one in [chosen, *workers] if one not in self._resting)
