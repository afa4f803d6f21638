"""The one place where scripts are called: a function a script, its arguments by keyword.

Each function's keywords are the KEYS and ARGV of its script's header, in that order (a test
compares them), so that a missing or extra argument fails before any I/O. What they return is
a command for the batcher. SHAs are computed here; nothing is loaded ahead.
"""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files

from metagame.value import value

Argument = bytes | str


@value
class Script:
    """A script's source, and the SHA Redis knows it by."""

    source: bytes
    sha: str


@value
class Command:
    """One command on one key; `script` is set where `words` are an EVALSHA, `packed` where they are packed already."""

    key: str
    words: tuple[Argument, ...]
    script: Script | None = None
    packed: bytes | None = None


def _load(name: str) -> Script:
    source = (files(__package__) / "lua" / f"{name}.lua").read_bytes()
    return Script(source, sha1(source, usedforsecurity=False).hexdigest())


def _call(script: Script, key: str, *arguments: Argument) -> Command:
    return Command(key, ("EVALSHA", script.sha, "1", key, *arguments), script)


_ANNOUNCE = _load("announce")
_ATTACH = _load("attach")
_COMMIT = _load("commit")
_CREATE = _load("create")
_DETACH = _load("detach")
_DOUBTFUL = _load("doubtful")
_END = _load("end")
_FREE = _load("free")
_INSPECT = _load("inspect")
_MARK = _load("mark")
_PAGE = _load("page")
_REAP = _load("reap")
_REFRESH = _load("refresh")
_RENEW = _load("renew")
_RESERVE = _load("reserve")
_ROLL = _load("roll")
_WITHDRAW = _load("withdraw")

_PACKED_COMMIT = b"*11\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n1\r\n" % _COMMIT.sha.encode() + 8 * b"$%d\r\n%b\r\n"
"""A commit's words as Redis reads them: packed here in half the time that a packer of any words takes."""


def commit(  # noqa: PLR0913 - one keyword an argument of the script
    *,
    record: str,
    attachment: bytes,
    entry: bytes,
    expected: bytes,
    generation: bytes,
    body: bytes,
    ttl_ms: str,
    lease_ms: str,
) -> Command:
    """Gone | unreadable | superseded | replayed, conflict, stale with the record | committed."""
    words = ("EVALSHA", _COMMIT.sha, "1", record, attachment, entry, expected, generation, body, ttl_ms, lease_ms)
    key, ttl, lease = record.encode(), ttl_ms.encode(), lease_ms.encode()
    packed = _PACKED_COMMIT % (
        *(len(key), key, len(attachment), attachment, len(entry), entry, len(expected), expected),
        *(len(generation), generation, len(body), body, len(ttl), ttl, len(lease), lease),
    )
    return Command(record, words, _COMMIT, packed)


def create(  # noqa: PLR0913 - one keyword an argument of the script
    *,
    record: str,
    may_create: str,
    origin: str,
    attachment: bytes,
    generation: bytes,
    entry: bytes,
    body: bytes,
    ttl_ms: str,
    lease_ms: str,
) -> Command:
    """Made | absent | unreadable | replayed, conflict, stale with the record."""
    return _call(_CREATE, record, may_create, origin, attachment, generation, entry, body, ttl_ms, lease_ms)


def attach(*, record: str, attachment: bytes, unless_owned: str, ttl_ms: str, lease_ms: str) -> Command:
    """Gone | unreadable | owned, attached with the record."""
    return _call(_ATTACH, record, attachment, unless_owned, ttl_ms, lease_ms)


def detach(*, record: str, attachment: bytes, ttl_ms: str) -> Command:
    """Gone | unreadable | superseded | detached."""
    return _call(_DETACH, record, attachment, ttl_ms)


def renew(*, record: str, attachment: bytes, ttl_ms: str, lease_ms: str) -> Command:
    """Gone | unreadable | superseded | renewed."""
    return _call(_RENEW, record, attachment, ttl_ms, lease_ms)


def inspect(*, record: str) -> Command:
    """Gone | found with record, expires_in_ms, now_ms."""
    return _call(_INSPECT, record)


def end(*, record: str, attachment: bytes) -> Command:
    """Gone | unreadable | superseded | ended."""
    return _call(_END, record, attachment)


def reap(*, record: str, attachment: bytes, lease_until: bytes) -> Command:
    """Gone | changed | ended."""
    return _call(_REAP, record, attachment, lease_until)


def withdraw(*, record: str, generation: bytes) -> Command:
    """Gone | changed | ended."""
    return _call(_WITHDRAW, record, generation)


def reserve(*, places: str, member: str, max_sessions: str, reserved_us: str, places_ttl_ms: str) -> Command:
    """held, reserved or full, with the number of places taken."""
    return _call(_RESERVE, places, member, max_sessions, reserved_us, places_ttl_ms)


def mark(*, places: str, member: str, places_ttl_ms: str) -> Command:
    """Absent | marked with the new score."""
    return _call(_MARK, places, member, places_ttl_ms)


def free(*, places: str, member: Argument, score: Argument, places_ttl_ms: str) -> Command:
    """Changed | freed."""
    return _call(_FREE, places, member, score, places_ttl_ms)


def refresh(*, places: str, member: Argument, score: Argument, doubtful_us: str, places_ttl_ms: str) -> Command:
    """Changed | refreshed."""
    return _call(_REFRESH, places, member, score, doubtful_us, places_ttl_ms)


def doubtful(*, places: str, skip: str, limit: str) -> Command:
    """Found with active, now_us, then member and score in turn."""
    return _call(_DOUBTFUL, places, skip, limit)


def page(*, places: str, score: str, member: str, limit: str) -> Command:
    """found, then member and score in turn."""
    return _call(_PAGE, places, score, member, limit)


def announce(*, workers: str, worker: str, word: bytes, kept_ms: str) -> Command:
    """Kept."""
    return _call(_ANNOUNCE, workers, worker, word, kept_ms)


def roll(*, workers: str) -> Command:
    """found, then worker, age and word in turn."""
    return _call(_ROLL, workers)
