"""One event loop on one daemon thread, on which every synchronous client of the process runs, and OpenEnv's too.

It starts at first use. A forked child gets one of its own: the parent's is left alone there,
since closing its copy would disturb the parent.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_FINISH_TIMEOUT_S = 1.0
_STOP_TIMEOUT_S = 3.0


class _Background:
    """The loop, and what a fork or the interpreter's end makes of it."""

    def __init__(self) -> None:
        # Re-entrant: a forgotten client's finalizer may run anywhere, in here too.
        self._lock = threading.RLock()
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

    def submit_if_running(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start the call unless there is no loop for it any more."""
        with self._lock:
            if self._loop is not None:
                asyncio.run_coroutine_threadsafe(call(), self._loop)

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._inherited += [self._loop, self._thread]
        self._loop = self._thread = None

    def _stop(self) -> None:
        """End the loop quietly: no task left pending, no warning at exit."""
        with self._lock:
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_finish(), loop)
        thread.join(_STOP_TIMEOUT_S)
        if not thread.is_alive():
            loop.close()


async def _finish() -> None:
    """Give what runs a moment, such as sockets that are being closed, then end it."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=_FINISH_TIMEOUT_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    await asyncio.sleep(0)  # transports that were closed just now say goodbye to the loop
    asyncio.get_running_loop().stop()


_background = _Background()


def start_if_running(call: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start a coroutine on the background loop if it is there; at the interpreter's end too."""
    _background.submit_if_running(call)


def wait_for(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop and return its result; an interrupt cancels it."""
    call = _Call(coroutine)
    try:
        return _background.submit(call.run()).result()
    except BaseException:
        call.cancel()
        raise


async def await_from_here(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop and await its result on this one; cancelling cancels it."""
    return await asyncio.wrap_future(_background.submit(coroutine))


class _Call(Generic[T]):
    """A coroutine that can be cancelled from another thread, even while it is being handed over."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    async def run(self) -> T:
        self._task = asyncio.current_task()
        if self._cancelled:
            self._coroutine.close()
            raise asyncio.CancelledError
        return await self._coroutine

    def cancel(self) -> None:
        self._cancelled = True
        if (task := self._task) is not None and not task.done():
            start_if_running(lambda: _cancel(task))


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
