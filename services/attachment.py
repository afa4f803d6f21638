"""One open socket's hold on a session.

An attachment caches the snapshot it last saw, so that a step is one commit. The cache may be
stale and the hold may be lost at any time; the commit's fence finds out.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from metagame.errors import MetaGameError

from .meter import Meter
from .meter.layout import ATTACHED
from .records import Held
from .store.base import ATTACHMENT_BYTES, Origin


class Attachment:
    """A socket's hold; `lost` is called once when a lease renewal finds it taken over.

    `took_over`: at its opening another socket, alive or dead, had the session.
    `attached` is False while the session does not exist: the first reset makes it, and `tried` says
    that one was sent. `superseded` is for good. `seen` is the episode this socket knows of: a step
    is taken in no other. `leased_at` is when the last request that renewed its lease was begun, and
    `renew_at` when the upkeep renews it next, both by time.monotonic().
    """

    __slots__ = (
        "_meter",
        "anonymous",
        "attached",
        "held",
        "leased_at",
        "lost",
        "renew_at",
        "seen",
        "session_id",
        "superseded",
        "token",
        "took_over",
        "tried",
    )

    def __init__(
        self, session_id: str, *, anonymous: bool, lost: Callable[[MetaGameError], None], meter: Meter
    ) -> None:
        self.session_id = session_id
        self.token = os.urandom(ATTACHMENT_BYTES)
        self.anonymous = anonymous
        self.lost = lost
        self._meter = meter
        self.attached = False
        self.superseded = False
        self.took_over = False
        self.tried = False
        self.held: Held | None = None
        self.seen: str | None = None
        self.leased_at = 0.0
        self.renew_at = 0.0

    @property
    def origin(self) -> Origin:
        """What a session that this socket's reset makes will be."""
        return Origin.ANONYMOUS if self.anonymous else Origin.NAMED

    def holds(self, held: Held) -> None:
        """Take note of where the session stands."""
        if not self.attached:
            self.attached = True
            self._count(1)
        self.held = held

    def let_go(self) -> None:
        """Take note that the session does not exist any more."""
        if self.attached:
            self.attached = False
            self._count(-1)
        self.held = None

    def _count(self, by: int) -> None:
        self._meter.count(ATTACHED, "anonymous" if self.anonymous else "named", by=by)
