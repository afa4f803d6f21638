"""A session's record as it lies in Redis, read from its documented bytes by a parser of the checker's own.

    offset  bytes  what
         0      1  layout, "1"
         1      1  origin: a, n or m
         2     16  attachment
        18     13  lease_until
        31     16  generation: a counter of 8 bytes, 64 random bits
        47      1  how many requests are remembered, a digit
        48   20 n  the requests
      then         the body

    body    "1", length of the state (4 bytes, big-endian), state JSON, newest answer's JSON
            "2", the same from the length on, deflated

State JSON is `[episode_id, step_count, done, the game's own]`, an answer's `[fields, reward, done, metadata]`.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass

_BODY = 48
_ENTRY_BYTES = 20


class Unreadable(Exception):
    """The bytes are not a record as documented; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a record says; `echo` is the newest answer's, None where no answer is kept."""

    episode: str | None
    step: int
    commits: int
    echo: str | None


def record_key(session: str) -> str:
    """The Redis key of a session's record."""
    return f"metagame:{{{session}}}"


def read(raw: bytes) -> Stored:
    """The record in `raw`; raises Unreadable."""
    if raw[:1] != b"1" or raw[1:2] not in {b"a", b"n", b"m"} or not raw[47:48].isdigit():
        message = f"a record does not begin with {raw[:48]!r}"
        raise Unreadable(message)
    body = raw[_BODY + _ENTRY_BYTES * int(raw[47:48]) :]
    try:
        state, answer = _split(body)
        episode, step, done, _ = json.loads(state)
        echo = json.loads(answer)[0]["echoed_message"] if answer else None
    except (ValueError, KeyError, IndexError, TypeError, zlib.error) as wrong:
        message = f"a record's body is not {body[:80]!r} ({wrong})"
        raise Unreadable(message) from None
    if done is not False or not isinstance(step, int):
        message = f"a state is not {state[:80]!r}"
        raise Unreadable(message)
    return Stored(episode, step, int.from_bytes(raw[31:39], "big"), echo)


def _split(body: bytes) -> tuple[bytes, bytes]:
    form, rest = body[:1], body[1:]
    if form == b"2":
        rest = zlib.decompress(rest)
    elif form != b"1":
        message = f"format {form!r}"
        raise ValueError(message)
    end = 4 + int.from_bytes(rest[:4], "big")
    return rest[4:end], rest[end:]
