"""What every judgement is made of: violations with their evidence, and the rules that any answer must keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chaos.journal import ENDS, Entry, Journal
from chaos.records import Stored

READY = "Meta Game environment ready!"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that must not happen, and the journal lines that show it."""

    kind: str
    session: str
    step: int | None
    text: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Final:
    """A session after the run: its record in Redis (None: there is none), and episode and step by HTTP."""

    stored: Stored | None
    episode: str | None
    step: int | None


@dataclass(slots=True)
class Verdict:
    """What was found, and how the calls of unknown outcome turned out."""

    violations: list[Violation] = field(default_factory=list)
    counted: int = 0
    """Calls of unknown outcome that `state` showed to have counted."""
    not_counted: int = 0
    counted_late: int = 0
    """Calls of unfenced clients that counted after `state` had answered."""


def answer_faults(answer: Mapping[str, Any], message: str | None) -> list[str]:
    """What is wrong with an answer by the game's rules; `message` is None for a reset."""
    text = READY if message is None else message
    length = 0 if message is None else len(message)
    found = []
    if answer["length"] != len(answer["echo"]) and message is not None:
        found.append(f"the length is {answer['length']}, the echo has {len(answer['echo'])}")
    if answer["echo"] == text and (answer["length"], answer["reward"]) != (length, length / 10):
        found.append(f"length and reward are {answer['length']} and {answer['reward']}, not {length} and {length / 10}")
    if answer["done"] is not False:
        found.append("the episode is done")
    return found


def echo_of(sent: Entry) -> str:
    """What the answer to a call must echo."""
    return READY if sent.fields["verb"] == "reset" else str(sent.fields["message"])


class Judge:
    """What both kinds of sessions need: violations with their evidence."""

    def __init__(self, session: str, verdict: Verdict, owners: Mapping[str, tuple[str, int]]) -> None:
        self.session = session
        self.verdict = verdict
        self.owners = owners

    def violation(self, kind: str, step: int | None, text: str, *lines: str) -> None:
        """Note one."""
        self.verdict.violations.append(Violation(kind, self.session, step, text, lines))

    def check_answer(self, journal: Journal, sent: Entry, got: Entry) -> None:
        """Echo, length, reward and done of one answer."""
        message, echo = sent.fields.get("message"), got.fields["echo"]
        lines = (journal.line(sent), journal.line(got))
        if echo != (READY if message is None else message):
            owner = self.owners.get(echo)
            whose = "nobody's" if owner is None else f"session {owner[0]}'s call {owner[1]}"
            self.violation("swapped", got.fields.get("step"), f"the echo is {whose}", *lines)
        for text in answer_faults(got.fields, message):
            self.violation("wrong", got.fields.get("step"), text, *lines)

    def check_end(self, journal: Journal) -> None:
        """The journal must have its last line, and each call its end: what hangs for ever shows nothing wrong."""
        last = journal.entries[-1]
        if last.what not in {"end", "left"}:
            self.violation("silent", None, "the client did not get to its end", journal.line(last))
            return
        ended = {entry.fields.get("call") for entry in journal.entries if entry.what in ENDS}
        for entry in journal.entries:
            if entry.what == "send" and entry.fields["call"] not in ended:
                self.violation("silent", None, f"call {entry.fields['call']} has no end", journal.line(entry))
