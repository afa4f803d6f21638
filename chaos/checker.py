"""The verdict: journals and the sessions' last states in, violations out. Pure, and the standard library only.

    lost      an acknowledged step does not count any more, or a session is gone
    repeated  a step counts that no client sent, or one that was sent counts twice
    swapped   an answer or a state is another session's, another episode's or another step's
    wrong     length, reward or done of an answer are not what the rules say
    silent    a client got no step answered at all, did not get to its end, or has a call that did not, so that
              nothing is proved; or one that sends again until it is answered was left in doubt

What is sent is different in every call, so that an echo says which call an answer belongs to. An episode's
answers must number 1..n in order. After a call whose outcome is unknown the session stands where it stood or
one further, as `state` then says, and the answer that Redis keeps must be that of the call which the number
names: else an answered step was lost and the call in doubt has its number. What `state` says is final, except
for `UNFENCED` clients: over HTTP without request ids nothing tells an older request that its client has gone
on, so it may count later, once, within `LATE_FOR_S`. `RESENDING` clients are never in doubt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from chaos.journal import Entry, Journal
from chaos.judge import READY, Final, Judge, Verdict, Violation, echo_of
from chaos.together import Together

UNFENCED = frozenset({"stock-http"})
RESENDING = frozenset({"stock-http-key"})
SHARED = "shared"
"""Several of these step one session: their journals are judged together."""
LONGEST_PAUSE_S = 30.0
"""No worker sleeps longer (`chaos.schedule`)."""
BALANCER_ANSWER_S = 15.0
"""So long the balancer waits for a worker (`deploy/haproxy/haproxy.cfg`)."""
STORE_DEADLINE_S = 5.0
"""So long a worker tries to commit (`METAGAME_REDIS_TIMEOUT_S`)."""
LATE_FOR_S = LONGEST_PAUSE_S + BALANCER_ANSWER_S + STORE_DEADLINE_S
"""A call that was sent longer ago is in nobody's hands any more."""


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
        Together(session, together, verdict, owners).run(finals.get(session, Final(None, None, None)))
    if not (verdict.violations or any(_tells_step(entry) for journal in journals for entry in journal.entries)):
        verdict.violations.append(Violation("silent", "", None, "no step of any session was answered"))
    return verdict


def _tells_step(entry: Entry) -> bool:
    return entry.what in {"answer", "committed"} and "step" in entry.fields


class _Walk(Judge):
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
        self.late: list[Entry] = []
        """Unfenced calls that may still count, the oldest first."""
        self.sent: dict[int, Entry] = {}
        self.proof: Entry | None = None
        """The line that last said where the session stands."""

    def run(self, final: Final) -> None:
        """Walk, then compare with the session's end."""
        reactions = {
            "send": self._on_send,
            "answer": self._on_answer,
            "committed": self._on_committed,
            "unknown": self._on_unknown,
            "error": self._on_unknown,
            "state": self._on_state,
        }
        for entry in self.journal.entries:
            reaction = reactions.get(entry.what)
            if reaction is not None:
                reaction(entry)
        entries = self.journal.entries
        if entries[-1].what != "left" and not any(_tells_step(one) for one in entries):
            self.violation("silent", None, "no step was answered")
        self.check_end(self.journal)
        self._compare(final)

    def _on_send(self, entry: Entry) -> None:
        self.sent[entry.fields["call"]] = entry

    def _on_unknown(self, entry: Entry) -> None:
        if self.journal.kind in RESENDING:
            text = "a call ended in doubt, although it was sent again until it was answered"
            self.violation("silent", None, text, *self._evidence(entry))
        self.doubt = self.sent.get(entry.fields.get("call", 0), self.doubt)

    def _on_answer(self, entry: Entry) -> None:
        sent = self.sent[entry.fields["call"]]
        self.check_answer(self.journal, sent, entry)
        self._counts(sent, entry, echo_of(sent))

    def _on_committed(self, entry: Entry) -> None:
        """Like an answer, but the one that Redis keeps is newer."""
        self._counts(self.sent[entry.fields["call"]], entry, None)

    def _counts(self, sent: Entry, entry: Entry, newest: str | None) -> None:
        if sent.fields["verb"] == "reset":
            self._stands(sent.fields["episode"], 0, newest, entry)
            return
        step = entry.fields["step"]
        self._number(step, entry, self.step + 1, f"call {entry.fields['call']} was answered as step {step}")
        self._stands(self.episode, step, newest, entry)

    def _on_state(self, entry: Entry) -> None:
        """Where the session stands, against what the answers so far allow."""
        episode, step, doubt = entry.fields["episode"], entry.fields["step"], self.doubt
        counted = None if doubt is None else self._settle(doubt, entry)
        newest: str | None = None
        if counted is not None:
            # Without the echo nobody knows which of several it was.
            newest = None if self.late and "echo" not in entry.fields else echo_of(counted)
        elif episode != self.episode:
            text = f"state says episode {episode}, not {self.episode}"
            self.violation("lost" if episode is None else "swapped", step, text, *self._evidence(entry))
        else:
            self._number(step, entry, self.step, f"state says step {step}")
            newest = self.newest if step == self.step else None
        if newest is not None and entry.fields.get("echo", newest) != newest:
            self._has_other_echo(newest, doubt, entry)
            newest = None
        self._stands(episode, step, newest, entry)

    def _has_other_echo(self, newest: str, doubt: Entry | None, entry: Entry) -> None:
        """The state's number belongs to one call and the answer in Redis to another."""
        step, echo = entry.fields["step"], entry.fields["echo"]
        if doubt is not None and echo == echo_of(doubt):
            text = f"call {doubt.fields['call']} counted as step {step}, which was another's: {newest!r} was answered"
            self.violation("lost", step, text, *self._evidence(doubt, entry))
        else:
            text = f"the answer kept in Redis echoes {echo!r}, not {newest!r}"
            self.violation("swapped", step, text, *self._evidence(entry))

    def _settle(self, doubt: Entry, entry: Entry) -> Entry | None:
        """The call that has counted by this state: the one in doubt, or an older one that came late."""
        self.doubt = None
        episode, step = entry.fields["episode"], entry.fields["step"]
        is_step = doubt.fields["verb"] == "step"
        stands = (self.episode, self.step + 1) if is_step else (doubt.fields["episode"], 0)
        counted = (episode, step) == stands
        self.verdict.counted += counted
        self.verdict.not_counted += not counted
        if not (is_step and self.unfenced):
            return doubt if counted else None
        self.late.append(doubt)
        if not counted:
            return None
        echo = entry.fields.get("echo")
        found = next((one for one in self.late if echo_of(one) == echo), self.late[0])
        self.late.remove(found)
        return found

    def _number(self, step: int, entry: Entry, expected: int, said: str) -> None:
        late = step - expected
        if 0 < late <= len(self.late):
            del self.late[:late]
            self.verdict.counted_late += late
            return
        if late:
            kind = "repeated" if late > 0 else "lost"
            self.violation(kind, step, f"{said}, where {expected} is due", *self._evidence(entry))

    def _stands(self, episode: str | None, step: int, newest: str | None, proof: Entry) -> None:
        self.episode, self.step, self.newest, self.proof, self.doubt = episode, step, newest, proof, None
        self.late = [one for one in self.late if proof.at_s - one.at_s <= LATE_FOR_S]

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
            allowed = self._compare_one("Redis", final.stored.episode, final.stored.step)
            may = self._echoes(final.stored.episode, final.stored.step)
            if allowed and may and final.stored.echo not in may:
                text = (
                    f"the answer kept in Redis echoes {final.stored.echo!r}, not {' or '.join(map(repr, sorted(may)))}"
                )
                self.violation("swapped", final.stored.step, text, *self._evidence())
        self._compare_one("HTTP state", final.episode, final.step)

    def _compare_one(self, where: str, episode: str | None, step: int | None) -> bool:
        """Whether the session may stand there in the end."""
        if step is None:
            self.violation("lost", self.step, f"{where} knows no such session", *self._evidence())
            return False
        allowed = {(self.episode, self.step + late) for late in range(len(self.late) + 1)}
        if self.doubt is not None:
            fields = self.doubt.fields
            allowed.add((fields["episode"], 0) if fields["verb"] == "reset" else (self.episode, self.step + 1))
        if (episode, step) in allowed:
            return True
        kind = "swapped" if episode != self.episode else "repeated" if step > self.step else "lost"
        text = f"{where} says step {step} of episode {episode}, the newest answer was {self.step} of {self.episode}"
        self.violation(kind, step, text, *self._evidence())
        return False

    def _echoes(self, episode: str | None, step: int) -> set[str]:
        """What the newest answer may echo where the session may stand; nothing where that is not known."""
        if (episode, step) == (self.episode, self.step):
            return set() if self.newest is None else {self.newest}
        if episode != self.episode:
            return {READY}
        doubt = [] if self.doubt is None or self.doubt.fields["verb"] == "reset" else [self.doubt]
        return {echo_of(one) for one in [*self.late, *doubt]}
