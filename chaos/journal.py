"""A client's journal: one JSON line for each thing it sent and each thing it got, written as it happens.

    client   session, kind                       the first line
    send     call, verb, message or episode      a call begins; `verb` is reset or step
    lost     call, why                           an attempt of the call failed, and the call goes on
    answer   call, step, echo, length, reward, done
    committed  call, step                        the call counted as this step, and its answer is no longer kept
    unknown  call, why                           the call ended without an answer: it counted once or not at all
    error    call, error, why                    likewise, and it was our client that raised
    state    episode, step, echo or unread       where the session stands, asked with no call under way
    left                                         the client gave the session up: a reset's outcome is unknown
    end                                          the client was not cut off

After a call whose outcome is unknown `state` has the echo of the newest answer in the session's record in Redis
(null where none is kept), or in `unread` why that is not known; other states have neither.

Calls are numbered from 1 in each journal. Times are seconds since the run began.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ENDS = frozenset({"answer", "committed", "unknown", "error"})
"""How a call ends."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a journal; `number` counts from 1, as editors do."""

    number: int
    at_s: float
    what: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Journal:
    """A journal as read back; `name` is its file's."""

    name: str
    entries: tuple[Entry, ...]

    @property
    def session(self) -> str:
        """The session that it is about."""
        return str(self.entries[0].fields["session"])

    @property
    def kind(self) -> str:
        """The kind of client that wrote it."""
        return str(self.entries[0].fields["kind"])

    def line(self, entry: Entry) -> str:
        """Where an entry stands and what it says, as evidence."""
        said = json.dumps({"what": entry.what, **entry.fields}, ensure_ascii=False)
        return f"{self.name}:{entry.number} at {entry.at_s:.3f} s {said if len(said) <= 300 else said[:300] + '…'}"


class Writer:
    """Appends to a journal; every line is with the system before the call returns."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._clock = clock

    def note(self, what: str, **fields: Any) -> None:
        """Write one line."""
        self._file.write(json.dumps({"at_s": round(self._clock(), 6), "what": what, **fields}) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read(path: Path) -> Journal:
    """The journal in a file."""
    return parse(path.name, path.read_text(encoding="utf-8"))


def parse(name: str, text: str) -> Journal:
    """The journal in a text; a last line that was cut off in writing is left out."""
    whole = text[: text.rfind("\n") + 1]
    entries = []
    for number, line in enumerate(whole.splitlines(), 1):
        fields = json.loads(line)
        entries.append(Entry(number, fields.pop("at_s"), fields.pop("what"), fields))
    return Journal(name, tuple(entries))
