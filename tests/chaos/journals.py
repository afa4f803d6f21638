"""Synthetic journals: a client's story told in a few words, with the sessions' ends that fit it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from chaos.journal import Journal, parse
from chaos.judge import READY, Final
from chaos.records import Stored


@dataclass
class Story:
    """A session's journal in the making; each verb writes the lines of one call."""

    session: str = "s1"
    kind: str = "stock-ws"
    lines: list[dict[str, Any]] = field(default_factory=list)
    episode: str | None = None
    step: int = 0
    calls: int = 0
    newest: str | None = None
    at_s: float = 0.0

    def __post_init__(self) -> None:
        self.note("client", session=self.session, kind=self.kind)

    def note(self, what: str, **fields: Any) -> Story:
        self.lines.append({"at_s": self.at_s, "what": what, **fields})
        self.at_s += 1
        return self

    def wait(self, for_s: float) -> Story:
        self.at_s += for_s
        return self

    def send_reset(self, episode: str) -> Story:
        self.calls += 1
        return self.note("send", call=self.calls, verb="reset", episode=episode)

    def send_step(self) -> str:
        self.calls += 1
        message = f"{self.session}.{self.calls}"
        self.note("send", call=self.calls, verb="step", message=message)
        return message

    def reset(self, episode: str, **wrong: Any) -> Story:
        self.send_reset(episode)
        self.episode, self.step, self.newest = episode, 0, READY
        return self.answer(**{"echo": READY, "length": 0, "reward": 0.0, "done": False} | wrong)

    def steps(self, count: int = 1, **wrong: Any) -> Story:
        for _ in range(count):
            message = self.newest = self.send_step()
            self.step += 1
            right = {"step": self.step, "echo": message, "length": len(message), "reward": len(message) / 10}
            self.answer(**right | {"done": False} | wrong)
        return self

    def answer(self, **fields: Any) -> Story:
        return self.note("answer", call=self.calls, **fields)

    def unknown_step(self, *, counts: bool, told: bool = True) -> Story:
        message = self.send_step()
        self.note("unknown", call=self.calls, why="cut")
        if counts:
            self.step, self.newest = self.step + 1, message
        return self.state_in_doubt() if told else self

    def unknown_reset(self, episode: str, *, counts: bool) -> Story:
        self.send_reset(episode)
        self.note("unknown", call=self.calls, why="cut")
        if counts:
            self.episode, self.step, self.newest = episode, 0, READY
        return self.state_in_doubt()

    def state(self, **wrong: Any) -> Story:
        return self.note("state", **{"episode": self.episode, "step": self.step} | wrong)

    def state_in_doubt(self, **wrong: Any) -> Story:
        """As after an unknown outcome: with the echo that Redis keeps."""
        return self.state(**{"echo": self.newest} | wrong)

    def end(self) -> Story:
        return self.note("end")

    @property
    def journal(self) -> Journal:
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        return parse(f"{self.session}.jsonl", text)

    def final(self, **wrong: Any) -> Final:
        """The session's end as it must be; `echo`, `step` and `episode` are Redis', `http_...` the other's."""
        stands = {"episode": self.episode, "step": self.step, "echo": self.newest} | wrong
        stored = Stored(stands["episode"], stands["step"], 1, stands["echo"])
        return Final(stored, stands.get("http_episode", self.episode), stands.get("http_step", self.step))
