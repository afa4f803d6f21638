"""The requests that a session remembers, so that each happens once.

A request is kept as an entry of 20 bytes: hashes of its id and of its command, and the step that it was. A session
remembers its entries newest first, one behind the other; the newest one's answer is in the body.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Any

from metagame.core import strictjson
from metagame.core.codec import unpack_answer
from metagame.core.session import Kind
from metagame.errors import AnswerForgotten, RequestConflict
from metagame.games import Observation

REMEMBERED = 8
"""Requests that a session remembers."""
HASH_BYTES = 8
KEY_BYTES = 2 * HASH_BYTES
_STEP = struct.Struct(">I")
ENTRY_BYTES = KEY_BYTES + _STEP.size
_OLDER_BYTES = (REMEMBERED - 1) * ENTRY_BYTES

# A hash that is begun is copied: that costs half of beginning one.
_ID = blake2b(digest_size=HASH_BYTES)
_COMMAND = {kind: blake2b(kind.encode(), digest_size=HASH_BYTES) for kind in (Kind.RESET, Kind.STEP)}


def request_key(request_id: str, kind: Kind, payload: Any) -> bytes:
    """The key of a client's request, 16 bytes; `payload` is the command as the client sent it, as JSON."""
    name = _ID.copy()
    name.update(request_id.encode())
    command = _COMMAND[kind].copy()
    command.update(strictjson.canonical_unchecked(payload))
    return name.digest() + command.digest()


def entry_of(key: bytes, step_count: int) -> bytes:
    """What a session remembers of the request, which led to this step count."""
    return key + _STEP.pack(step_count)


def entry_step(entry: bytes) -> int:
    """The step count that a remembered request led to."""
    return int(_STEP.unpack_from(entry, KEY_BYTES)[0])


def remember(entry: bytes, remembered: bytes) -> bytes:
    """The entries with a new one, and without what is too old."""
    return entry + remembered[:_OLDER_BYTES]


def find(remembered: bytes, id_hash: bytes) -> int:
    """Where the entry of a request id begins; -1 where there is none."""
    at = remembered.find(id_hash)
    while at > 0 and at % ENTRY_BYTES:  # bytes that happen to match, and begin no entry
        at = remembered.find(id_hash, at + 1)
    return at


def recall(remembered: bytes, body: bytes, key: bytes) -> Observation | None:
    """The answer to a request that the session remembers; None if it does not.

    Raises RequestConflict if its id was used for another command, AnswerForgotten if only the
    newest request's answer is still kept and this is an older one.
    """
    at = find(remembered, key[:HASH_BYTES])
    if at < 0:
        return None
    entry = remembered[at : at + ENTRY_BYTES]
    if not entry.startswith(key):
        message = "This request_id was already used for another command in this session. Use a new one."
        raise RequestConflict(message)
    answer = unpack_answer(body) if at == 0 else None
    if answer is None:
        step = entry_step(entry)
        message = f"This request was already committed as step {step}; its answer is no longer kept."
        raise AnswerForgotten(message, step=step)
    return answer
