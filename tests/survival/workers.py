"""Worker processes that tests kill, stop, restart and look at."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import httpx

from tests.redis_servers import free_port
from tests.servers import Server, run_server

WAIT_S = 30.0
_POLL_S = 0.02


class Worker:
    """One server process after another, on one port and with one set of variables."""

    module = "services.app"

    def __init__(self, **env: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = {"METAGAME_PORT": str(self.port)} | env
        self._process = ExitStack()
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        assert self._server is not None, "the worker was never started"
        return self._server

    @property
    def alive(self) -> bool:
        return self._server is not None and self._server.process.poll() is None

    def start(self, *, until: str = "/ready") -> None:
        """Start, and return once this path answers 200."""
        self._server = self._process.enter_context(run_server(until=until, module=self.module, **self._env))

    def end(self) -> None:
        """End it, whatever its state."""
        self._process.close()

    def restart(self) -> None:
        """Come back on the same port."""
        self.end()
        self.start()

    def kill(self) -> None:
        """End it as a crash would."""
        self.server.kill()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.server.process.pid, number)

    async def exit_code(self) -> int:
        """Wait until it has left by itself."""
        return await asyncio.to_thread(self.server.process.wait, WAIT_S)


@contextmanager
def workers(count: int, **env: str) -> Iterator[list[Worker]]:
    """Running workers, started side by side."""
    several = [Worker(**env) for _ in range(count)]
    try:
        start_all(several)
        yield several
    finally:
        for one in several:
            one.end()


def start_all(several: list[Worker]) -> None:
    """Have every one of them run."""
    dead = [one for one in several if not one.alive]
    with ThreadPoolExecutor(max(1, len(dead))) as side_by_side:
        list(side_by_side.map(Worker.restart, dead))


async def running(*several: Worker) -> None:
    """The same without holding up the event loop."""
    await asyncio.to_thread(start_all, list(several))


@asynccontextmanager
async def http(worker: Worker) -> AsyncIterator[httpx.AsyncClient]:
    """Requests to one worker."""
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False, timeout=WAIT_S) as client:
        yield client


async def until(happened: Callable[[], Any], what: str, within_s: float = WAIT_S) -> Any:
    """Wait for an event that nobody announces; its value once it is true."""
    async with asyncio.timeout(within_s) as limit:
        while not (value := await _value(happened)):
            when = limit.when()
            assert when is not None
            assert asyncio.get_running_loop().time() < when - _POLL_S, f"{what} did not happen within {within_s} s"
            await asyncio.sleep(_POLL_S)
    return value


async def _value(happened: Callable[[], Any]) -> Any:
    value = happened()
    return await value if asyncio.iscoroutine(value) else value
