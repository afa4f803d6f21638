"""A worker in a thread of the test's process, so that its calls and allocations can be counted.

Its event loop, protocols and options are those of `services.serve`. Its upkeep does not run (no lifespan):
what is counted is what was asked for, and nothing that comes by the clock.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import uvicorn

from services.app import create_app, open_store
from services.serve import config_of, keep_alive
from services.settings import Settings

PATIENCE_S = 20.0

T = TypeVar("T")


class Worker:
    """A worker whose event loop the test can reach into."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        config = config_of(settings, "unused")
        config.lifespan = "off"
        self.server = uvicorn.Server(config)
        self._settings = settings
        self._listener = listener
        self._loop: asyncio.AbstractEventLoop
        self._reachable = threading.Event()

    def run(self) -> None:
        """Serve until stopped; the body of the thread."""
        with asyncio.Runner(loop_factory=self.server.config.get_loop_factory()) as runner:
            runner.run(self._serve())

    def wait_until_reachable(self) -> None:
        """Return once it takes connections, which wait in the backlog until it serves them."""
        assert self._reachable.wait(PATIENCE_S), "the worker did not start"

    def on_loop(self, call: Callable[[], T]) -> T:
        """Call on the event loop's thread; what it returned."""

        async def called() -> T:
            return call()

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(PATIENCE_S)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """The event loop busy, so that whatever arrives meanwhile is found in one turn."""
        stands, goes_on = threading.Event(), threading.Event()

        def stand() -> None:
            stands.set()
            goes_on.wait(PATIENCE_S)

        self._loop.call_soon_threadsafe(stand)
        assert stands.wait(PATIENCE_S)
        try:
            yield
        finally:
            goes_on.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        store = open_store(self._settings)
        self.server.config.app = create_app(self._settings, store=store)
        self._reachable.set()
        await self.server.serve([self._listener])
        await store.close()


@contextmanager
def worker(redis_url: str | None, **settings: object) -> Iterator[Worker]:
    """A running worker, stopped with the block."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        keep_alive(listener)
        listener.listen()
        one = Worker(Settings(redis_url=redis_url, **settings), listener)  # type: ignore[arg-type]
        thread = threading.Thread(target=one.run, daemon=True)
        thread.start()
        try:
            one.wait_until_reachable()
            yield one
        finally:
            one.server.should_exit = True
            thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the worker did not stop"
