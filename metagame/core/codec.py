"""Snapshots and answers as bytes: canonical JSON behind a format digit.

A release reads format N-1 and N and writes N-1 until the next release, so that a rolling
update and its rollback are safe. The store keeps these bytes and never looks inside.

    format 1   "1", length of the state (4 bytes, big-endian), state JSON, answer JSON
    format 2   "2", the same from the length on, deflated
"""

from __future__ import annotations

import struct
import zlib

from metagame.core import strictjson
from metagame.core.session import Command, Snapshot, decide
from metagame.errors import GameFailed, MetaGameError, Unavailable
from metagame.games import Game, Observation

WRITES = b"1"
READS: tuple[bytes, ...] = (b"1", b"2")


class NewerRecord(Unavailable):
    """A newer release wrote the session: a surface lets the connection go, so that another worker may be met."""


_LENGTH = struct.Struct(">I")


def decide_packed(game: Game, snapshot: Snapshot | None, command: Command) -> tuple[Snapshot, Observation, bytes]:
    """`decide`, with what it led to as one body; raises GameFailed, caused by it, for the game's own failure."""
    try:
        after, answer = decide(game, snapshot, command)
        return after, answer, pack(after, answer)
    except MetaGameError:
        raise
    except Exception as failure:  # the game is somebody's code: its failure is an answer, not a crash
        message = "The game failed on this request, and nothing was changed. Its own error says why, in the log."
        raise GameFailed(message) from failure


def pack(snapshot: Snapshot, answer: Observation | None, *, form: bytes | None = None) -> bytes:
    """A snapshot and the newest answer as one body, in the format that this release writes unless another is given."""
    form = form or WRITES
    stands = [snapshot.episode_id, snapshot.step_count, snapshot.done, snapshot.state]
    said = None if answer is None else [answer.fields, answer.reward, answer.done, answer.metadata]
    state = strictjson.canonical_unchecked(stands)
    kept = b"" if said is None else strictjson.canonical_unchecked(said)
    body = strictjson.check_finite(_LENGTH.pack(len(state)) + state + kept, (stands, said))
    return form + (zlib.compress(body, 1) if form == b"2" else body)


def unpack_snapshot(body: bytes) -> Snapshot:
    """The snapshot in a body; raises NewerRecord (retryable) for an unknown format."""
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


def unknown_format() -> NewerRecord:
    """The error for a record that a newer release wrote."""
    message = (
        "This session was written by a newer release than this worker's, and nothing was changed."
        " Send the request again: it may reach a newer worker."
    )
    return NewerRecord(message, retryable=True)
