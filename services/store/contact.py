"""Whether leases may be believed: how long the store has been watched without a gap.

After an outage, or after this process slept, every lease has lapsed although the workers
that hold them live. So nobody ends a session for its lapsed lease before everybody had one
whole lease of uninterrupted time to renew it.
"""

from __future__ import annotations

from collections.abc import Callable


class Contact:
    """Time of uninterrupted contact with the place where the leases are."""

    def __init__(self, *, lease_ms: int, clock: Callable[[], float]) -> None:
        self._lease_s = lease_ms / 1000
        self._clock = clock
        self._since = self._seen = clock()

    def seen(self) -> None:
        """Contact now; one that comes a whole lease after the last starts anew."""
        now = self._clock()
        if now - self._seen >= self._lease_s:
            self._since = now
        self._seen = now

    def lost(self) -> None:
        """No contact: the count starts anew."""
        self._since = self._seen = self._clock()

    @property
    def steady(self) -> bool:
        """Whether contact has lasted for a lease."""
        return self._clock() - self._since >= self._lease_s
