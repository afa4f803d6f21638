"""One open socket's hold on a session.

An attachment caches the snapshot it last saw, so that a step is one commit. The cache may be
stale and the hold may be lost at any time; the commit's fence finds out. How a socket gets its
session, `read`, stands here too.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from metagame.errors import MetaGameError, SessionTakenOver

from .meter import Meter
from .meter.layout import ATTACHED
from .records import Held, held
from .resend import Deadline
from .store.base import ATTACHMENT_BYTES, Origin, Record, SessionStore


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


async def read(
    store: SessionStore, session_id: str, attachment: Attachment | None, deadline: Deadline, *, opening: bool = False
) -> Record | None:
    """The record from the store; a socket that is not attached yet is attached by this.

    Only at its opening does a socket take a session over: later, whoever has it is newer or came
    first. Raises SessionTakenOver where the attachment is not the session's.
    """
    if attachment is not None and attachment.superseded:
        raise taken_over()
    record = await deadline.read(store.load, session_id)
    if attachment is None:
        return record
    if record is not None and record.attachment != attachment.token:
        if attachment.attached:
            raise taken_over()
        held(record)  # what this release cannot read it takes from nobody
        others = bool(record.attachment)
        token = attachment.token
        record = await deadline.read(store.attach, session_id, token, unless_owned=not opening)
        if record is not None and record.attachment != token:
            raise taken_over()
        attachment.leased_at = deadline.began
        attachment.took_over = others
    if record is None:
        attachment.let_go()
    else:
        attachment.holds(held(record))
    return record


def taken_over() -> SessionTakenOver:
    """The error for a socket that owns its session no longer."""
    message = (
        "A newer socket has attached to this session, or it was ended and made again;"
        " this socket owns it no longer. Open a new socket to take it back."
    )
    return SessionTakenOver(message)
