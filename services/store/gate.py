"""When a server that failed may be tried again.

A thousand requests that wait for a Redis that is away must not become a thousand connections
to it, nor to one that is just coming back and still loads its data. So while a server is away
one batch at a time tries it, after pauses that grow; whoever comes in between is refused at
once and comes again by itself (resend.py), at its own pace.
"""

from __future__ import annotations

import random

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 0.5

_jitter = random.Random()  # noqa: S311 - spreads workers; the global generator stays untouched


class Gate:
    """Open while a server works; after a failure open to one at a time, at once the first time."""

    __slots__ = ("_opens_at", "_pause_s", "away", "reason")

    def __init__(self) -> None:
        self.away = False
        self.reason = ""
        """Why the last one failed, for those that are refused."""
        self._pause_s = 0.0
        self._opens_at = 0.0

    def failed(self, now: float, reason: str) -> None:
        """The server did not do its work."""
        self.away = True
        self.reason = reason
        self._opens_at = now + self._pause_s * _jitter.uniform(0.5, 1.0)
        self._pause_s = min(max(FIRST_PAUSE_S, 2 * self._pause_s), LONGEST_PAUSE_S)

    def worked(self) -> None:
        """The server did its work."""
        self.away = False
        self._pause_s = 0.0

    def refuses(self, now: float, *, trying: bool) -> bool:
        """Whether nobody may pass now; `trying`: somebody has passed and is not back yet."""
        return self.away and (trying or now < self._opens_at)
