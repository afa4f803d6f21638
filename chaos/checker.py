"""The verdict: journals and the sessions' last states in, violations out. Pure, and the standard library only.

    lost      an acknowledged step does not count any more, or a session is gone
    repeated  a step counts that no client sent, or one that was sent counts twice
    swapped   an answer or a state is another session's, another episode's or another step's
    wrong     length, reward or done of an answer are not what the rules say
    silent    a client got no step answered at all, or did not get to its end, so that nothing is proved

What is sent is different in every call, so that an echo says which call an answer belongs to. An episode's
answers must number 1..n in order. After a call whose outcome is unknown the session stands where it stood or
one further, as `state` then says, and that is final, except for `UNFENCED` clients: over HTTP without request
ids nothing tells an older request that its client has gone on, so it may count later, once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.journal import Entry, Journal
from chaos.records import Stored

READY = "Meta Game environment ready!"
UNFENCED = frozenset({"stock-http"})
SHARED = "shared"
"""Several of these step one session: their journals are judged together."""


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


def check(journals: Sequence[Journal], finals: Mapping[str, Final]) -> Verdict:
    """Judge every session by all that its clients wrote down."""
    verdict = Verdict()
    owners = {
        entry.fields["message"]: (journal.session, entry.fields["call"])
        for journal in journals
        for entry in journal.entries
        if entry.what == "send" and entry.fields["verb"] == "step"
    }
    shared: dict[str, list[Journal]] = defaultdict(list)
    for journal in journals:
        final = finals.get(journal.session, Final(None, None, None))
        if journal.kind == SHARED:
            shared[journal.session].append(journal)
        else:
            _Walk(journal, verdict, owners).run(final)
    for session, together in shared.items():
        _Together(session, together, verdict, owners).run(finals.get(session, Final(None, None, None)))
    return verdict


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


class _Judge:
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
        """The journal must have its last line: a client that hangs for ever shows nothing wrong."""
        last = journal.entries[-1]
        if last.what not in {"end", "left"}:
            self.violation("silent", None, "the client did not get to its end", journal.line(last))


class _Walk(_Judge):
    """One client's session, line by line."""

    def __init__(self, journal: Journal, verdict: Verdict, owners: Mapping[str, tuple[str, int]]) -> None:
        super().__init__(journal.session, verdict, owners)
        self.journal = journal
        self.unfenced = journal.kind in UNFENCED
        self.episode: str | None = None
        self.step = 0
        self.newest: str | None = None
        """What the newest answer in the record echoes; None where that is not known."""
        self.doubt: Entry | None = None
        self.late = 0
        """Unfenced calls that may still count."""
        self.sent: dict[int, Entry] = {}
        self.proof: Entry | None = None
        """The line that last said where the session stands."""

    def run(self, final: Final) -> None:
        """Walk, then compare with the session's end."""
        reactions = {
            "send": self._on_send,
            "answer": self._on_answer,
            "unknown": self._on_unknown,
            "error": self._on_unknown,
            "state": self._on_state,
        }
        for entry in self.journal.entries:
            reaction = reactions.get(entry.what)
            if reaction is not None:
                reaction(entry)
        entries = self.journal.entries
        if entries[-1].what != "left" and not any(one.what == "answer" and "step" in one.fields for one in entries):
            self.violation("silent", None, "no step was answered")
        self.check_end(self.journal)
        self._compare(final)

    def _on_send(self, entry: Entry) -> None:
        self.sent[entry.fields["call"]] = entry

    def _on_unknown(self, entry: Entry) -> None:
        self.doubt = self.sent.get(entry.fields.get("call", 0), self.doubt)

    def _on_answer(self, entry: Entry) -> None:
        sent = self.sent[entry.fields["call"]]
        self.check_answer(self.journal, sent, entry)
        if sent.fields["verb"] == "reset":
            self._stands(sent.fields["episode"], 0, READY, entry)
            return
        step = entry.fields["step"]
        self._number(step, entry, self.step + 1, f"call {entry.fields['call']} was answered as step {step}")
        self._stands(self.episode, step, sent.fields["message"], entry)

    def _on_state(self, entry: Entry) -> None:
        """Where the session says it stands, against what the answers so far allow."""
        episode, step = entry.fields["episode"], entry.fields["step"]
        doubt = self.doubt
        if doubt is not None and self._settle(doubt, episode, step):
            newest = READY if doubt.fields["verb"] == "reset" else doubt.fields["message"]
            self._stands(episode, step, newest, entry)
            return
        if episode != self.episode:
            text = f"state says episode {episode}, not {self.episode}"
            self.violation("lost" if episode is None else "swapped", step, text, *self._evidence(entry))
        else:
            self._number(step, entry, self.step, f"state says step {step}")
        self._stands(episode, step, self.newest if step == self.step else None, entry)

    def _settle(self, doubt: Entry, episode: str | None, step: int) -> bool:
        """Whether the call in doubt has counted, by this state."""
        self.doubt = None
        if doubt.fields["verb"] == "reset":
            counted = episode == doubt.fields["episode"] and step == 0
        else:
            counted = episode == self.episode and step == self.step + 1
        self.verdict.counted += counted
        self.verdict.not_counted += not counted
        if not counted and self.unfenced and doubt.fields["verb"] == "step":
            self.late += 1
        return counted

    def _number(self, step: int, entry: Entry, expected: int, said: str) -> None:
        late = step - expected
        if 0 < late <= self.late:
            self.late -= late
            self.verdict.counted_late += late
            return
        if late:
            kind = "repeated" if late > 0 else "lost"
            self.violation(kind, step, f"{said}, where {expected} is due", *self._evidence(entry))

    def _stands(self, episode: str | None, step: int, newest: str | None, proof: Entry) -> None:
        self.episode, self.step, self.newest, self.proof, self.doubt = episode, step, newest, proof, None

    def _evidence(self, *entries: Entry) -> tuple[str, ...]:
        calls = [self.sent[entry.fields["call"]] for entry in entries if entry.fields.get("call") in self.sent]
        before = [] if self.proof is None else [self.proof]
        return tuple(self.journal.line(entry) for entry in [*before, *calls, *entries])

    def _compare(self, final: Final) -> None:
        """The session's end by Redis and by HTTP against the newest acknowledged answer."""
        if self.episode is None and final == Final(None, None, None):
            return  # no reset was ever acknowledged
        if final.stored is None:
            self.violation("lost", self.step, "Redis holds no record of the session", *self._evidence())
        else:
            self._compare_one("Redis", final.stored.episode, final.stored.step)
            standing = final.stored.episode == self.episode and final.stored.step == self.step
            if standing and self.newest is not None and final.stored.echo not in {self.newest, None}:
                text = f"the answer kept in Redis echoes {final.stored.echo!r}, not {self.newest!r}"
                self.violation("swapped", self.step, text, *self._evidence())
        self._compare_one("HTTP state", final.episode, final.step)

    def _compare_one(self, where: str, episode: str | None, step: int | None) -> None:
        if step is None:
            self.violation("lost", self.step, f"{where} knows no such session", *self._evidence())
            return
        allowed = {(self.episode, self.step + late) for late in range(self.late + 1)}
        if self.doubt is not None:
            fields = self.doubt.fields
            allowed.add((fields["episode"], 0) if fields["verb"] == "reset" else (self.episode, self.step + 1))
        if (episode, step) in allowed:
            return
        kind = "swapped" if episode != self.episode else "repeated" if step > self.step else "lost"
        text = f"{where} says step {step} of episode {episode}, the newest answer was {self.step} of {self.episode}"
        self.violation(kind, step, text, *self._evidence())


class _Together(_Judge):
    """A session that several clients step: every number once, whoever got it, and none that nobody sent."""

    def __init__(
        self, session: str, journals: list[Journal], verdict: Verdict, owners: Mapping[str, tuple[str, int]]
    ) -> None:
        super().__init__(session, verdict, owners)
        self.journals = journals

    def run(self, final: Final) -> None:
        """Judge all journals of the session as one."""
        answered: dict[int, str] = {}
        unknown = 0
        for journal in self.journals:
            self.check_end(journal)
            sent = {entry.fields["call"]: entry for entry in journal.entries if entry.what == "send"}
            highest = 0
            for entry in journal.entries:
                unknown += entry.what == "unknown" and sent[entry.fields["call"]].fields["verb"] == "step"
                if entry.what != "answer":
                    continue
                self.check_answer(journal, sent[entry.fields["call"]], entry)
                if "step" not in entry.fields:
                    continue
                step, line = entry.fields["step"], journal.line(entry)
                if step in answered:
                    self.violation("lost", step, "two calls were answered as the same step", answered[step], line)
                elif step < highest:
                    self.violation("lost", step, f"answered after step {highest} was", line)
                answered[step] = line
                highest = max(highest, step)
        if not answered:
            self.violation("silent", None, "no step was answered")
            return
        self._compare(final, answered, unknown)

    def _compare(self, final: Final, answered: Mapping[int, str], unknown: int) -> None:
        episodes = {
            entry.fields["episode"]
            for journal in self.journals
            for entry in journal.entries
            if entry.what == "send" and entry.fields["verb"] == "reset"
        }
        newest = max(answered)
        stored = final.stored
        places = (
            ("Redis", None if stored is None else stored.episode, None if stored is None else stored.step),
            ("HTTP state", final.episode, final.step),
        )
        for where, episode, step in places:
            if step is None or step < newest:
                said = "knows no such session" if step is None else f"says step {step}"
                self.violation("lost", step, f"{where} {said}, step {newest} was answered", answered[newest])
                continue
            if episode not in episodes:
                self.violation("swapped", step, f"{where} says episode {episode}, which no client of it began")
            extra = step - len(answered)
            if extra > unknown:
                text = f"{where} says step {step}; {len(answered)} were answered, of {unknown} the outcome is unknown"
                self.violation("repeated", step, text, answered[newest])
        if final.step is not None:
            counted = min(max(0, final.step - len(answered)), unknown)
            self.verdict.counted += counted
            self.verdict.not_counted += unknown - counted
