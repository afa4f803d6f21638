"""Where a worker is in its life, and how it leaves.

On SIGTERM it stops accepting (under uvicorn), lets what is in flight finish, closes named sockets
with 1012 so that their clients go on elsewhere, leaves anonymous ones for most of the drain's time,
and then hands the signal on to the server that it runs in. At the end of that time it is gone. A worker whose
supervisor is gone leaves in the same way: nobody would ask it to, and it would hold the port for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

import structlog

from .meter import Meter
from .meter.layout import DRAINING

SERVER_SHARE = 0.25
"""The part of the drain's time left to the server itself, for HTTP requests still in flight."""
EXIT_S = 0.1
"""How long before the end of the drain's time a worker goes whatever is left."""

log = structlog.get_logger()


class Drainable(Protocol):
    """An open socket."""

    anonymous: bool

    def drain(self) -> None:
        """Finish what is in flight and close with 1012."""


class Lifecycle:
    """The sockets of a worker and whether it is draining."""

    def __init__(self, *, drain_timeout_s: float, meter: Meter | None = None) -> None:
        self.draining = False
        self._meter = meter or Meter()
        self.sockets: set[Drainable] = set()
        self._empty = asyncio.Event()
        self._drain_timeout_s = drain_timeout_s
        self._drain: asyncio.Task[None] | None = None
        self._told: list[Callable[[], None]] = []

    def enter(self, socket: Drainable) -> None:
        """A socket opened."""
        self.sockets.add(socket)
        self._empty.clear()

    def exit(self, socket: Drainable) -> None:
        """A socket is gone, its session ended or detached."""
        self.sockets.discard(socket)
        if not self.sockets:
            self._empty.set()

    def when_draining(self, tell: Callable[[], None]) -> None:
        """Have this called, in the event loop, once the worker begins to leave."""
        self._told.append(tell)

    def take_sigterm(self) -> None:
        """Drain on SIGTERM before the server's own handler runs; a second SIGTERM goes straight to it."""
        if threading.current_thread() is not threading.main_thread():
            return  # a server embedded in a thread is stopped by its owner
        previous = signal.getsignal(signal.SIGTERM)
        if not callable(previous):
            return
        loop = asyncio.get_running_loop()

        def on_sigterm(number: int, frame: FrameType | None) -> None:
            if self.draining:
                previous(number, frame)
            else:
                self.draining = True
                self._meter.set(DRAINING, 1)
                loop.call_soon_threadsafe(self._begin, previous)

        signal.signal(signal.SIGTERM, on_sigterm)
        _when_supervisor_dies(lambda: loop.call_soon_threadsafe(self._left_alone))

    def _begin(self, server_stop: Callable[[int, FrameType | None], Any]) -> None:
        # uvicorn's handler is a method of its server, whose listeners are closed here: no new
        # connection comes to a worker that is leaving. Under another server they stay open.
        server = getattr(server_stop, "__self__", None)
        for listener in getattr(server, "servers", []):
            listener.close()
        asyncio.get_running_loop().call_later(max(0.0, self._drain_timeout_s - EXIT_S), self._go)
        self._drain = asyncio.create_task(self._drain_then(server_stop))
        for tell in self._told:
            tell()

    def _left_alone(self) -> None:
        if not self.draining:
            log.warning("worker leaves", reason="its supervisor is gone")
            os.kill(os.getpid(), signal.SIGTERM)

    def _go(self) -> None:
        """Leave at the deadline: a worker holds nothing that cannot be lost."""
        log.warning("worker leaves at its deadline", sockets_left=len(self.sockets))
        sys.stderr.flush()
        os._exit(0)

    async def _drain_then(self, server_stop: Callable[[int, FrameType | None], Any]) -> None:
        named = [socket for socket in self.sockets if not socket.anonymous]
        log.info("worker draining", sockets=len(self.sockets), named=len(named))
        for socket in named:
            socket.drain()
        if self.sockets:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), (1 - SERVER_SHARE) * self._drain_timeout_s)
        log.info("worker drained", sockets_left=len(self.sockets))
        server_stop(signal.SIGTERM, None)


def _when_supervisor_dies(leave: Callable[[], object]) -> None:
    """Call this, from a thread, once the process that started this one is gone; at once, if it is already."""
    supervisor = multiprocessing.parent_process()
    if supervisor is None:
        return

    def watch() -> None:
        # However that dies, it ends: only the supervisor holds the other end of the pipe that is waited for.
        supervisor.join()
        with contextlib.suppress(RuntimeError):  # the event loop is closed: this process is leaving
            leave()

    threading.Thread(target=watch, name="supervisor", daemon=True).start()
