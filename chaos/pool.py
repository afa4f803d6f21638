"""The pool as processes: HAProxy, workers behind lines, Redis with its replica and sentinels."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from chaos.lines import Line, step_to_worker
from chaos.processes import Process, fixed_port
from chaos.records import record_key
from chaos.redis_nodes import RedisNodes

ROOT = Path(__file__).resolve().parents[1]
HAPROXY_CONFIGURATION = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
WAIT_REPLICAS = 1
_READY_DEADLINE_S = 30.0
_POLL_S = 0.05


class NotReady(Exception):
    """The pool serves nobody; the text says what was asked."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process, and the line from the balancer to it."""

    process: Process
    line: Line


class ProcessPool:
    """Everything on loopback, data and logs in `folder`; starts and ends with its block."""

    def __init__(self, folder: Path, workers: int, mutant: str | None) -> None:
        self.redis = RedisNodes(folder)
        self.workers = {
            f"w{number}": _worker(f"w{number}", folder, self.redis.url, mutant) for number in range(1, workers + 1)
        }
        self.port = fixed_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.balancer = _balancer(folder, self.port, {name: one.line.port for name, one in self.workers.items()})

    async def __aenter__(self) -> Self:
        try:
            await self.redis.start()
            for worker in self.workers.values():
                await worker.line.open()
            await asyncio.gather(*(worker.process.start() for worker in self.workers.values()))
            await self.balancer.start()
            for worker in self.workers.values():
                await ready(worker.process.port)
            await ready(self.port)
        except BaseException:
            self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    async def records(self, sessions: list[str]) -> dict[str, bytes | None]:
        """The sessions' raw records."""
        return await self.redis.records({session: record_key(session) for session in sessions})

    async def forget(self, sessions: list[str]) -> None:
        """Nothing: the pool goes, and its sessions with it."""

    def _stop(self) -> None:
        self.balancer.kill()
        for worker in self.workers.values():
            worker.process.kill()
            worker.line.close()
        self.redis.stop()


async def ready(port: int) -> None:
    """Wait until `/ready` says so; raises NotReady."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _READY_DEADLINE_S
    said = "nothing"
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        while loop.time() < until:
            try:
                answer = await client.get(f"http://127.0.0.1:{port}/ready")
            except httpx.HTTPError as wrong:
                said = type(wrong).__name__
            else:
                if answer.status_code == httpx.codes.OK:
                    return
                said = f"{answer.status_code} {answer.text[:200]}"
            await asyncio.sleep(_POLL_S)
    message = f"/ready on port {port} said {said} for {_READY_DEADLINE_S:g} s"
    raise NotReady(message)


def _worker(name: str, folder: Path, redis_url: str, mutant: str | None) -> Worker:
    port, line = fixed_port(), fixed_port()
    module = ["metagame"] if mutant is None else ["chaos.mutants", mutant]
    command = [sys.executable, "-m", *module, "serve", "--host", "127.0.0.1", "--port", str(port)]
    settings = {
        "METAGAME_REDIS_URL": redis_url,
        "METAGAME_REDIS_WAIT_REPLICAS": str(WAIT_REPLICAS),
        "METAGAME_LOG_FORMAT": "json",
        "PYTHONPATH": str(ROOT),
    }
    process = Process(name, command, port, folder / f"{name}.log", settings)
    return Worker(process, Line(line, port, step_to_worker))


def _balancer(folder: Path, port: int, workers: dict[str, int]) -> Process:
    listed = folder / "workers.cfg"
    lines = ["backend workers from pool", *(f"    server {name} 127.0.0.1:{at}" for name, at in workers.items())]
    listed.write_text("\n".join(lines) + "\n")
    settings = {
        "BALANCER_BIND": f"127.0.0.1:{port}",
        "BALANCER_STATS_BIND": f"127.0.0.1:{fixed_port()}",
        "BALANCER_NOFILE": "4000",
    }
    command = ["haproxy", "-db", "-f", str(HAPROXY_CONFIGURATION), "-f", str(listed)]
    return Process("balancer", command, port, folder / "balancer.log", settings)
