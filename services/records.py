"""What the engine reads out of a store's record, and the generations it draws."""

from __future__ import annotations

import os
import random
import secrets
import struct
from dataclasses import dataclass
from hashlib import blake2b

from metagame.core.codec import unpack_snapshot
from metagame.core.session import Snapshot
from metagame.errors import Unavailable
from metagame.value import value

from .store.base import Origin, Record

_GENERATION = struct.Struct(">QQ")

_distinct = random.Random()  # noqa: S311 - tells two commits apart and keeps no secret; the system seeds it
os.register_at_fork(after_in_child=_distinct.seed)


@value
class Held:
    """A session as a worker last saw it."""

    generation: bytes
    snapshot: Snapshot
    origin: Origin


@dataclass(frozen=True, slots=True)
class SessionItem:
    """A session as `GET /sessions` shows it; what this release cannot read of it is None."""

    session_id: str
    episode_id: str | None
    step_count: int | None
    generation: int | None
    attached: bool | None
    expires_in_s: float | None


def held(record: Record) -> Held:
    """The record's snapshot, decoded; raises Unavailable for a newer release's format."""
    return Held(record.generation, unpack_snapshot(record.body), record.origin)


def item(session_id: str, record: Record) -> SessionItem:
    """The record as listed."""
    snapshot = unpack_snapshot(record.body)
    return SessionItem(
        session_id=session_id,
        episode_id=snapshot.episode_id,
        step_count=snapshot.step_count,
        generation=counter(record.generation),
        attached=record.attached,
        expires_in_s=round((record.expires_in_ms or 0) / 1000, 3),
    )


def listed(session_id: str, record: Record | None) -> SessionItem:
    """The record in a list, which one of a newer release's format (None: of its layout) does not break."""
    try:
        if record is not None:
            return item(session_id, record)
    except Unavailable:
        pass
    return SessionItem(session_id, None, None, None, None, None)


def counter(generation: bytes) -> int:
    """The number that each commit raises by one."""
    number, _ = _GENERATION.unpack(generation)
    return int(number)


def generation_after(generation: bytes | None) -> bytes:
    """A new generation: the next number (1 for a new session) and 64 random bits."""
    number = 1 if generation is None else _GENERATION.unpack(generation)[0] + 1
    return _GENERATION.pack(number, _distinct.getrandbits(64))


def distinct_bytes(count: int) -> bytes:
    """Random bytes that tell one thing from another; they guard nothing."""
    return _distinct.randbytes(count)


def new_session_id() -> str:
    """A session id nobody can guess: 128 random bits as 32 hexadecimal digits."""
    return secrets.token_hex(16)


def session_hash(session_id: str) -> str:
    """How a log names a session, whose id is a bearer key and is never logged."""
    return blake2b(session_id.encode(), digest_size=6).hexdigest()
