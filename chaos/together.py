"""A session that several clients step: their journals are judged as one."""

from __future__ import annotations

from collections.abc import Mapping

from chaos.journal import Entry, Journal
from chaos.judge import Final, Judge, Verdict, echo_of


class Together(Judge):
    """Every number once, whoever got it, and none that nobody sent."""

    def __init__(
        self, session: str, journals: list[Journal], verdict: Verdict, owners: Mapping[str, tuple[str, int]]
    ) -> None:
        super().__init__(session, verdict, owners)
        self.journals = journals
        self.answered: dict[int, tuple[str, str]] = {}
        """By step: what the call sent, and the journal's line of its answer."""
        self.unknown: set[str] = set()
        """What was sent by steps whose outcome nobody knows."""

    def run(self, final: Final) -> None:
        """Judge all journals of the session, then compare with the session's end."""
        for journal in self.journals:
            self.check_end(journal)
            self._walk(journal)
        if not self.answered:
            self.violation("silent", None, "no step was answered")
            return
        self._compare(final)

    def _walk(self, journal: Journal) -> None:
        sent = {entry.fields["call"]: entry for entry in journal.entries if entry.what == "send"}
        highest = 0
        for entry in journal.entries:
            if entry.what == "unknown" and sent[entry.fields["call"]].fields["verb"] == "step":
                self.unknown.add(echo_of(sent[entry.fields["call"]]))
            if entry.what != "answer":
                continue
            self.check_answer(journal, sent[entry.fields["call"]], entry)
            if "step" not in entry.fields:
                continue
            step, line = entry.fields["step"], journal.line(entry)
            if step in self.answered:
                text = "two calls were answered as the same step"
                self.violation("lost", step, text, self.answered[step][1], line)
            elif step < highest:
                self.violation("lost", step, f"answered after step {highest} was", line)
            self.answered[step] = echo_of(sent[entry.fields["call"]]), line
            highest = max(highest, step)

    def _episodes(self) -> set[str]:
        """Those in which the session may be: of the newest answered reset, and of any that came after it."""
        begun: dict[tuple[str, int], Entry] = {}
        may: set[str] = set()
        lines = [
            (entry.at_s, entry.number, journal.name, entry) for journal in self.journals for entry in journal.entries
        ]
        for _, _, name, entry in sorted(lines, key=lambda line: line[:3]):
            if entry.what == "send" and entry.fields["verb"] == "reset":
                begun[name, entry.fields["call"]] = entry
                may.add(entry.fields["episode"])
            elif entry.what == "answer" and (name, entry.fields["call"]) in begun:
                may = {begun[name, entry.fields["call"]].fields["episode"]}
        return may

    def _compare(self, final: Final) -> None:
        newest = max(self.answered)
        message, line = self.answered[newest]
        episodes = self._episodes()
        stored = final.stored
        places = (
            ("Redis", None if stored is None else stored.episode, None if stored is None else stored.step),
            ("HTTP state", final.episode, final.step),
        )
        for where, episode, step in places:
            if step is None or step < newest:
                said = "knows no such session" if step is None else f"says step {step}"
                self.violation("lost", step, f"{where} {said}, step {newest} was answered", line)
                continue
            if episode not in episodes:
                self.violation("swapped", step, f"{where} says episode {episode}, which is not the newest", line)
            extra = step - len(self.answered)
            if extra > len(self.unknown):
                told, doubtful = len(self.answered), len(self.unknown)
                text = f"{where} says step {step}; {told} were answered, of {doubtful} the outcome is unknown"
                self.violation("repeated", step, text, line)
        if stored is not None and stored.step >= newest:
            may = {message} if stored.step == newest else self.unknown
            if may and stored.echo not in may:
                text = f"the answer kept in Redis echoes {stored.echo!r}, no call that may have been step {stored.step}"
                self.violation("swapped", stored.step, text, line)
        if final.step is not None:
            counted = min(max(0, final.step - len(self.answered)), len(self.unknown))
            self.verdict.counted += counted
            self.verdict.not_counted += len(self.unknown) - counted
