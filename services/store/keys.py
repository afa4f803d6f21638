"""Names of Redis keys, made here and nowhere else.

A session's key carries its id as the hash tag, so that whatever is added to a session later
lands on the same node of a cluster. Ids have no braces in them.
"""

from __future__ import annotations


def record_key(prefix: str, session_id: str) -> str:
    """The key of a session's record."""
    return f"{prefix}:{{{session_id}}}"


def places_key(prefix: str) -> str:
    """The key of the pool's places, a sorted set; its tag is its own."""
    return f"{prefix}:places:{{places}}"


def workers_key(prefix: str) -> str:
    """The key of what workers say of themselves, a hash; it lies where the places do."""
    return f"{prefix}:workers:{{places}}"


def pulse_key(prefix: str) -> str:
    """The key that is written to see whether writes are taken; it lies where the places do."""
    return f"{prefix}:pulse:{{places}}"
