"""The requests that a session remembers, so that each happens once.

A request is kept as an entry of 20 bytes, newest first; the newest one's answer is in the body.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Any

from metagame.core import strictjson
from metagame.core.codec import unpack_answer
from metagame.errors import AnswerForgotten, RequestConflict
from metagame.games import Observation
from metagame.value import value

REMEMBERED = 8
"""Requests that a session remembers."""
HASH_BYTES = 8
_STEP = struct.Struct(">I")
ENTRY_BYTES = 2 * HASH_BYTES + _STEP.size


@value
class RequestKey:
    """A request id and its command, each as a short hash (8 bytes)."""

    id_hash: bytes
    digest: bytes

    def entry(self, step_count: int) -> bytes:
        """What a session remembers of the request: id, command, and the step it was."""
        return self.id_hash + self.digest + _STEP.pack(step_count)


def request_key(request_id: str, kind: str, payload: Any) -> RequestKey:
    """The key of a client's request; `payload` is the command as the client sent it, as JSON."""
    return RequestKey(_hash(request_id.encode()), _hash(kind.encode() + strictjson.canonical(payload)))


def entry_step(entry: bytes) -> int:
    """The step count that a remembered request led to."""
    return int(_STEP.unpack_from(entry, 2 * HASH_BYTES)[0])


def recall(remembered: tuple[bytes, ...], body: bytes, key: RequestKey) -> Observation | None:
    """The answer to a request that the session remembers; None if it does not.

    Raises RequestConflict if its id was used for another command, AnswerForgotten if only the
    newest request's answer is still kept and this is an older one.
    """
    for place, entry in enumerate(remembered):
        if not entry.startswith(key.id_hash):
            continue
        if not entry.startswith(key.id_hash + key.digest):
            message = "This request_id was already used for another command in this session. Use a new one."
            raise RequestConflict(message)
        answer = unpack_answer(body) if place == 0 else None
        if answer is None:
            step = entry_step(entry)
            message = f"This request was already committed as step {step}; its answer is no longer kept."
            raise AnswerForgotten(message, step=step)
        return answer
    return None


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=HASH_BYTES).digest()
