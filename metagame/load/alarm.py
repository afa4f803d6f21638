"""A clock that rings within microseconds of its time; the event loop's own timers are right to a millisecond.

An open loop counts latencies from planned moments, so that what the clock is late is added to each.
Where there is no timerfd, which is Linux', the event loop's timers have to do.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000
_ABSOLUTE = 1


class Alarm:
    """Rings once for each `set`; call it on the event loop it is to ring on."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._timer: int | None = None
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._timer = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
            if self._timer < 0:
                raise OSError(ctypes.get_errno(), "timerfd_create")
            self._loop.add_reader(self._timer, self._rung)

    def set(self, moment: float) -> None:
        """Ring at this moment of `time.perf_counter`, at once if it has passed."""
        if self._timer is None:
            self._handle = self._loop.call_later(max(0.0, moment - time.perf_counter()), self._ring)
            return
        nanoseconds = max(1, int(moment * 1e9))
        spec = (ctypes.c_long * 4)(0, 0, *divmod(nanoseconds, 10**9))
        if self._libc.timerfd_settime(self._timer, _ABSOLUTE, spec, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Ring no more."""
        if self._handle is not None:
            self._handle.cancel()
        if self._timer is not None:
            self._loop.remove_reader(self._timer)
            os.close(self._timer)

    def _rung(self) -> None:
        if self._timer is not None:
            os.read(self._timer, 8)
            self._ring()
