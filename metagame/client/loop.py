"""One event loop on one daemon thread, on which every synchronous client of the process runs.

It starts at first use. A forked child gets one of its own: the parent's is left alone there,
since closing its copy would disturb the parent.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_STOP_TIMEOUT_S = 2.0


class _Background:
    """The loop, and what a fork or the interpreter's end makes of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._inherited: list[object] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)
        atexit.register(self._stop)

    def submit(self, call: Coroutine[Any, Any, T]) -> Future[T]:
        """Start the call on the loop, and the loop if need be."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="metagame-client", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(call, self._loop)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._inherited += [self._loop, self._thread]
        self._loop = self._thread = None

    def _stop(self) -> None:
        """End the loop quietly: no task left pending, no warning at exit."""
        with self._lock:
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop)
        thread.join(_STOP_TIMEOUT_S)
        if not thread.is_alive():
            loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    asyncio.get_running_loop().stop()


_background = _Background()


def start(call: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine on the background loop."""
    return _background.submit(call)


def wait_for(call: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop and return its result; an interrupt cancels it."""
    future = start(call)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
