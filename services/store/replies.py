"""What replies of Redis mean: words and records, who is told of a commit's, and the cursor of a list."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

from . import layout
from .base import COMMITTED, InvalidCursor, Outcome, Record, Said, StoreUnavailable, UnreadableRecord, Word

_WORDS = {word.value.encode(): word for word in Word}
_BARE = {name: Outcome(word) for name, word in _WORDS.items()} | {
    b"absent": Outcome(Word.GONE),
    b"committed": COMMITTED,
}
_CURSOR = re.compile(r"([0-9]{1,19}):([A-Za-z0-9._-]{1,128})", re.ASCII)


class Telling:
    """The receiver of a commit's reply, who passes its outcome on, once."""

    __slots__ = ("_told",)

    def __init__(self, told: Callable[[Said], None]) -> None:
        self._told: Callable[[Said], None] | None = told

    def done(self) -> bool:
        """Whether it was passed on."""
        return self._told is None

    def set_result(self, reply: list[bytes], /) -> None:
        """Pass on what the reply means."""
        said: Said
        try:
            said = outcome_of(reply)
        except UnreadableRecord as newer:
            said = newer
        except Exception as broken:  # noqa: BLE001 - a record that is none is this one's misfortune, not the connection's
            said = StoreUnavailable(f"an answer that cannot be read: {broken}", unknown=True)
        self._tell(said)

    def set_exception(self, error: StoreUnavailable, /) -> None:
        """Pass on why there is none."""
        self._tell(error)

    def _tell(self, said: Said) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(said)


def outcome_of(reply: list[bytes]) -> Outcome:
    """What a script's word means, with the record that stands behind it."""
    if len(reply) == 2:
        return Outcome(_WORDS[reply[0]], layout.read(reply[1]))
    outcome = _BARE.get(reply[0])
    if outcome is None:
        raise unreadable()
    return outcome


def shown(reply: list[Any]) -> Record | None:
    """The record that a look found."""
    if reply[0] == b"gone":
        return None
    return layout.read(reply[1], expires_in_ms=reply[2], now_ms=int(reply[3]))


def shown_if_readable(reply: list[Any]) -> Record | None:
    """The same; None also where this release cannot read it."""
    try:
        return shown(reply)
    except UnreadableRecord:
        return None


def check_readable(reply: list[bytes]) -> None:
    """Raise UnreadableRecord where the script met a layout that is not ours."""
    if reply[0] == b"unreadable":
        raise unreadable()


def unreadable() -> UnreadableRecord:
    """The error for a record of another layout."""
    return UnreadableRecord("the record's layout is not one this release reads")


def write_cursor(member: str, score: str) -> str:
    """The cursor of a list that goes on behind this place."""
    return base64.urlsafe_b64encode(f"{score}:{member}".encode()).decode()


def read_cursor(cursor: str) -> tuple[str, str]:
    """The score and the member in a cursor; raises InvalidCursor."""
    try:
        text = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeError):
        text = ""
    parts = _CURSOR.fullmatch(text)
    if parts is None:
        message = "not a cursor of this list"
        raise InvalidCursor(message)
    return parts[1], parts[2]
