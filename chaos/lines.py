"""TCP proxies in front of a worker or a Redis: what passes can be delayed, cut, and waited for.

A fault strikes best while a step is on its way, so a line knows what a step looks like: to a worker a POST or
a frame on a WebSocket, to Redis a commit. Messages are small; nothing here slows a fast sender down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, cast

Moment = Literal["arrives", "passes", "answered"]
"""A step has come in and not gone out; it has gone out; its answer has come in and not gone out."""
PATIENCE_S = 4.0
"""After this long without a step a fault strikes all the same."""


def step_to_worker(pair: Pair, chunk: bytes) -> bool:
    """Whether a chunk from the balancer is a step, rather than a probe, a handshake or a question."""
    if pair.upgraded:
        return b"step" in _unmasked(chunk[:64])
    head = chunk[:4096]
    pair.upgraded = b"upgrade: websocket" in head.lower()
    return head.startswith(b"POST ") and b"/step " in head.partition(b"\r\n")[0]


def _unmasked(frame: bytes) -> bytes:
    """The beginning of a client's frame, readable."""
    start = {126: 4, 127: 10}.get(frame[1] & 0x7F, 2) if len(frame) > 1 else 2
    mask, payload = frame[start : start + 4], frame[start + 4 :]
    return bytes(byte ^ mask[number % 4] for number, byte in enumerate(payload))


def commit_to_redis(pair: Pair, chunk: bytes) -> bool:  # noqa: ARG001 - every connection is alike
    """Whether a chunk from a worker commits: of the scripts that are called this one alone has eleven words."""
    return b"*11\r\n$7\r\nEVALSHA\r\n" in chunk


@dataclass(slots=True, eq=False)
class Trap:
    """What is to be done the next time that a step is at some moment of its way."""

    moment: Moment
    action: Callable[[], None]
    on_sockets: bool
    after_s: float
    struck: asyncio.Future[float] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def spring(self) -> None:
        """Act, now or in a moment."""
        if self.after_s:
            asyncio.get_running_loop().call_later(self.after_s, self._act)
        else:
            self._act()

    def _act(self) -> None:
        if not self.struck.done():
            self.struck.set_result(asyncio.get_running_loop().time())
            self.action()


class Line:
    """Forwards connections on `port` to the port behind. One trap at a time."""

    def __init__(self, port: int, behind: int, is_step: Callable[[Pair, bytes], bool]) -> None:
        self.port = port
        self.behind = behind
        self.is_step = is_step
        self.delay_s = 0.0
        self.pairs: set[Pair] = set()
        self.trap: Trap | None = None
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Start to listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Near(Pair(self)), "127.0.0.1", self.port)

    def close(self) -> None:
        """Stop, and drop what is open."""
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """Drop every connection, with what is on its way."""
        for pair in list(self.pairs):
            pair.drop()

    async def strike(
        self, moment: Moment, action: Callable[[], None], *, on_sockets: bool = False, after_s: float = 0.0
    ) -> float:
        """Act when the next step is at this moment, or when none has come for a while; returns when, in loop time."""
        trap = self.trap = Trap(moment, action, on_sockets, after_s)
        try:
            for _ in range(1 + on_sockets):
                with suppress(TimeoutError):
                    return await asyncio.wait_for(asyncio.shield(trap.struck), PATIENCE_S)
                trap.on_sockets = False  # a worker that has no sockets may have other requests
            trap.after_s = 0.0
            trap.spring()
            return await trap.struck
        finally:
            if self.trap is trap:
                self.trap = None

    def sprung(self, moment: Moment, pair: Pair) -> bool:
        """Spring the trap if it is for this; whether it was."""
        trap = self.trap
        if trap is None or trap.moment != moment or (trap.on_sockets and not pair.upgraded):
            return False
        self.trap = None
        trap.spring()
        return True


class Pair:
    """A connection that came in, and the one that was opened for it."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.upgraded = False
        self.near: asyncio.Transport | None = None
        self.far: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._asked = False
        self._due_s = {True: 0.0, False: 0.0}
        self._opening: asyncio.Task[None] | None = None

    def begin(self, near: asyncio.Transport) -> None:
        """Open the far side."""
        self.near = near
        self.line.pairs.add(self)
        self._opening = asyncio.get_running_loop().create_task(self._open())

    def from_near(self, chunk: bytes) -> None:
        """Pass on what the near side sent."""
        is_step = self.line.is_step(self, chunk)
        if is_step:
            self.line.sprung("arrives", self)
            self._asked = True
        self._pass(chunk, far=True)
        if is_step:
            self.line.sprung("passes", self)

    def from_far(self, chunk: bytes) -> None:
        """Pass on what the far side sent; a cut at this moment loses it."""
        if self._asked:
            self._asked = False
            self.line.sprung("answered", self)
        self._pass(chunk, far=False)

    def drop(self) -> None:
        """Both sides are gone."""
        self.line.pairs.discard(self)
        if self._opening is not None:
            self._opening.cancel()
        for side in (self.near, self.far):
            if side is not None:
                side.abort()

    def end(self) -> None:
        """One side has closed: close the other, behind what is still on its way."""
        wait_s = max(self._due_s.values()) - asyncio.get_running_loop().time()
        if wait_s > 0:
            asyncio.get_running_loop().call_later(wait_s + 0.001, self._close)
        else:
            self._close()

    def _close(self) -> None:
        self.line.pairs.discard(self)
        if self._opening is not None:
            self._opening.cancel()
        for side in (self.near, self.far):
            if side is not None:
                side.close()

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            await loop.create_connection(lambda: _Far(self), "127.0.0.1", self.line.behind)
            return
        self.drop()

    def opened(self, far: asyncio.Transport) -> None:
        """The far side is there."""
        self.far = far
        for chunk in self._waiting:
            far.write(chunk)
        self._waiting.clear()

    def _pass(self, chunk: bytes, *, far: bool) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        due_s = max(now_s + self.line.delay_s, self._due_s[far])
        if due_s <= now_s:
            self._write(chunk, far)
            return
        self._due_s[far] = due_s + 1e-6  # timers of one instant have no order
        loop.call_at(due_s, self._write, chunk, far)

    def _write(self, chunk: bytes, far: bool) -> None:
        side = self.far if far else self.near
        if side is None:
            self._waiting.append(chunk)
        elif not side.is_closing():
            side.write(chunk)


class _Near(asyncio.Protocol):
    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pair.begin(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._pair.from_near(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it ended
        self._pair.end()


class _Far(asyncio.Protocol):
    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pair.opened(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._pair.from_far(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it ended
        self._pair.end()
