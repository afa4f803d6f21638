"""How a record lies in Redis: a header of fixed width, so that Lua cuts it and parses nothing.

    offset  bytes  what
         0      1  layout, "1"
         1      1  origin: a, n, m or g
         2     16  attachment, NULs where there is none
        18     13  lease_until in ms by Redis TIME, decimal digits
        31     16  generation
        47      1  how many requests are remembered, "0" to "8"
        48   20 n  the requests, newest first
      then         the body, opaque

The scripts write records; Python only reads them.
"""

from __future__ import annotations

from metagame.core.remembered import ENTRY_BYTES

from .base import ATTACHMENT_BYTES, Origin, Record, UnreadableRecord

LAYOUT = b"1"
NO_ATTACHMENT = bytes(ATTACHMENT_BYTES)
HEAD_BYTES = 31
"""Layout to lease_until: what the examination of a place needs."""

_ENTRIES = 48
_ORIGINS = {origin.value.encode(): origin for origin in Origin}


def read(raw: bytes, *, expires_in_ms: int | None = None, now_ms: int | None = None) -> Record:
    """The record in `raw`; with `now_ms` it also says whether a socket is attached.

    Raises UnreadableRecord for any layout but ours.
    """
    origin = _ORIGINS.get(raw[1:2])
    if raw[:1] != LAYOUT or origin is None:
        message = f"record layout {raw[:2]!r} is not one this release reads"
        raise UnreadableRecord(message)
    attachment = raw[2:18]
    if attachment == NO_ATTACHMENT:
        attachment = b""
    lease_until_ms = int(raw[18:31])
    start = _ENTRIES + ENTRY_BYTES * (raw[47] - 48)
    return Record(
        origin,
        raw[31:47],
        raw[start:],
        raw[_ENTRIES:start],
        attachment,
        lease_until_ms,
        expires_in_ms,
        now_ms is not None and attachment != b"" and lease_until_ms > now_ms,
    )


def abandoned(head: bytes, now_ms: int) -> bool:
    """Whether a record's head is an anonymous session's whose lease has lapsed."""
    return head[:2] == b"1a" and int(head[18:31]) <= now_ms
