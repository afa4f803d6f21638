"""Answers that come close together, written together.

Each write to a socket is a call into the kernel, which wakes who reads there, often at the cost of this worker's
processor: under load writing an answer costs as much as making it. Written one behind the other, each costs far less:
the kernel's code and the reader stay awake. So an answer is written at once, unless the last write was a moment
ago; then it is held until that moment is over or the loop's turn ends, whichever is first. A lone client waits
for nothing. Where some of a game's steps are slow, a quick one's answer may wait for one of them, never for two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic_ns
from weakref import WeakKeyDictionary

from uvicorn.server import ServerState

GROUP_NS = 500_000
"""How long a write keeps the next from following by itself: a dozen steps in memory, and far below any round trip."""


class Outbox:
    """What one server's sockets have to send; everything else written to one of them asks for `flush` before."""

    __slots__ = ("_clock_ns", "_held", "_next_ns")

    def __init__(self, clock_ns: Callable[[], int] = monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._held: list[tuple[asyncio.Transport, bytes]] = []
        self._next_ns = 0
        """When an answer may be written by itself again."""

    def put(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write the data now or at the latest when the loop's turn ends; nothing where the transport has closed."""
        now_ns = self._clock_ns()
        held = self._held
        held.append((transport, data))
        if now_ns >= self._next_ns:
            self._next_ns = now_ns + GROUP_NS
            self.flush()
        elif len(held) == 1:
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what is held."""
        held = self._held
        if held:
            self._held = []
            for transport, data in held:
                if not transport.is_closing():
                    transport.write(data)


_OUTBOXES: WeakKeyDictionary[ServerState, Outbox] = WeakKeyDictionary()


def outbox_of(server: ServerState) -> Outbox:
    """The server's outbox: its sockets, and no others, are in one loop."""
    return _OUTBOXES.setdefault(server, Outbox())
