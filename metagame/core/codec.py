"""Snapshots and answers as bytes: canonical JSON behind a format digit.

A release reads format N-1 and N and writes N-1 until the next release, so that a rolling
update and its rollback are safe. The store keeps these bytes and never looks inside.

    format 1   "1", length of the state (4 bytes, big-endian), state JSON, answer JSON
    format 2   "2", the same from the length on, deflated
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from metagame.core import strictjson
from metagame.core.session import Snapshot
from metagame.errors import Unavailable
from metagame.games import Observation

WRITES = b"1"
READS = (b"1", b"2")

_LENGTH = struct.Struct(">I")
_STEP = struct.Struct(">I")
HASH_BYTES = 8
ENTRY_BYTES = 2 * HASH_BYTES + _STEP.size


@dataclass(frozen=True, slots=True)
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


def pack(snapshot: Snapshot, answer: Observation | None, *, form: bytes = WRITES) -> bytes:
    """A snapshot and the newest answer as one body."""
    state = strictjson.canonical([snapshot.episode_id, snapshot.step_count, snapshot.done, snapshot.state])
    kept = b"" if answer is None else strictjson.canonical([answer.fields, answer.reward, answer.done, answer.metadata])
    body = _LENGTH.pack(len(state)) + state + kept
    return form + (zlib.compress(body, 1) if form == b"2" else body)


def unpack_snapshot(body: bytes) -> Snapshot:
    """The snapshot in a body; raises Unavailable (retryable) for an unknown format."""
    state, _ = _split(body)
    episode_id, step_count, done, value = strictjson.loads(state)
    return Snapshot(episode_id, step_count, done, value)


def unpack_answer(body: bytes) -> Observation | None:
    """The newest answer in a body, None where none is kept."""
    _, kept = _split(body)
    if not kept:
        return None
    fields, reward, done, metadata = strictjson.loads(kept)
    return Observation(fields, reward, done, metadata)


def _split(body: bytes) -> tuple[bytes, bytes]:
    form, rest = body[:1], body[1:]
    if form not in READS:
        raise unknown_format()
    if form == b"2":
        rest = zlib.decompress(rest)
    end = _LENGTH.size + _LENGTH.unpack_from(rest)[0]
    return rest[_LENGTH.size : end], rest[end:]


def unknown_format() -> Unavailable:
    """The error for a record that a newer release wrote."""
    message = (
        "This session was written by a newer release than this worker's, and nothing was changed."
        " Send the request again: it may reach a newer worker."
    )
    return Unavailable(message, retryable=True)


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=HASH_BYTES).digest()
