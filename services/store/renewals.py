"""Many leases renewed at once, each by a command of its own, since on a cluster they lie anywhere."""

from __future__ import annotations

import asyncio

from .base import StoreUnavailable, Word

_WORDS = {word.value.encode(): word for word in (Word.RENEWED, Word.SUPERSEDED, Word.GONE)}


class Renewals:
    """The words of many leases, whose future is done once each has its own."""

    __slots__ = ("_found", "_left", "words")

    def __init__(self, count: int) -> None:
        self._found: list[Word | None] = [None] * count
        self._left = count
        self.words: asyncio.Future[list[Word | None]] = asyncio.get_running_loop().create_future()
        if not count:
            self.words.set_result([])

    def receiver(self, at: int) -> _Renewal:
        """The receiver of the lease at this place in the list."""
        return _Renewal(self, at)

    def note(self, at: int, word: Word | None) -> None:
        """Take a lease's word; once."""
        self._found[at] = word
        self._left -= 1
        if not self._left:
            self.words.set_result(self._found)


class _Renewal:
    """A lease's receiver: a future for each of some hundred would cost more than the rest of it."""

    __slots__ = ("_all", "_at", "_told")

    def __init__(self, renewals: Renewals, at: int) -> None:
        self._all = renewals
        self._at = at
        self._told = False

    def done(self) -> bool:
        """Whether it has its word, or nobody waits for any."""
        return self._told or self._all.words.done()

    def set_result(self, reply: list[bytes]) -> None:
        """Take the script's word."""
        self._told = True
        self._all.note(self._at, _WORDS.get(reply[0]))

    def set_exception(self, _: StoreUnavailable) -> None:
        """None: no answer."""
        self._told = True
        self._all.note(self._at, None)
