"""What happens in a session's life, told in one place: a count, and a line in the log.

A line names the session and the request by hashes, since either's id may be a key to the session; the episode's
id is the client's own word for it, cut short. What a client said stands in no line.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, Literal

import structlog

from metagame.core.session import Kind, Snapshot
from metagame.errors import GameFailed

from .meter import Meter
from .meter.layout import ENDED, MADE, REFUSED, RESUMED, TAKEN_OVER
from .records import session_hash
from .store.base import Origin

COMMITTED = {kind: f"{kind} committed" for kind in (Kind.RESET, Kind.STEP)}
EPISODE_LENGTH = 64
"""Characters of an episode's id in the log."""

log = structlog.get_logger()


class Events:
    """Tells a worker's log and meter."""

    def __init__(self, meter: Meter, *, log_steps: bool = False) -> None:
        self.meter = meter
        self.log_steps = log_steps
        """Whether resets and steps have lines too."""

    def made(
        self,
        session_id: str,
        origin: Origin,
        *,
        attached: bool = False,
        episode_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        """A session came into being, attached to a socket or not."""
        self.meter.count(MADE, origin.word)
        names = _names(session_id, episode_id, request_id)
        log.info("session made", origin=origin.word, attached=attached, **names)

    def attached(self, session_id: str, snapshot: Snapshot, *, took_over: bool) -> None:
        """A socket opened on a session that existed, and that another socket had or none."""
        self.meter.count(RESUMED)
        event = "socket attached" if snapshot.episode_id is None else "session resumed"  # nothing to go on with yet
        reason = "no socket had it"
        if took_over:
            self.meter.count(TAKEN_OVER)
            event, reason = "session taken over", "another socket had it, or died with it"
        log.info(event, reason=reason, step=snapshot.step_count, **_names(session_id, snapshot.episode_id))

    def lost(self, session_id: str, episode_id: str | None) -> None:
        """A socket learned that its session is another's."""
        log.info("socket lost its session", reason="taken over", **_names(session_id, episode_id))

    def detached(self, session_id: str, reason: str, *, episode_id: str | None) -> None:
        """A socket left, and its session stays, or was not its own any more."""
        log.info("socket detached", reason=reason, **_names(session_id, episode_id))

    def left_alone(self, session_id: str, *, episode_id: str | None) -> None:
        """A socket left, and the store could not be told."""
        log.warning("socket left without the store", reason="unavailable", **_names(session_id, episode_id))

    def ended(
        self, session_id: str, reason: Literal["asked", "closed", "left"], *, episode_id: str | None = None
    ) -> None:
        """A session ended."""
        self.meter.count(ENDED, reason)
        log.info("session ended", reason=reason, **_names(session_id, episode_id))

    def refused(
        self, reason: Literal["capacity", "draining", "unavailable"], session_id: str | None = None, **facts: int
    ) -> None:
        """A socket or session was not let in."""
        self.meter.count(REFUSED, reason)
        log.info("session refused", reason=reason, **facts, **_names(session_id))

    def game_failed(
        self, game: str, kind: Kind, session_id: str, failure: GameFailed, request_id: str | None = None
    ) -> None:
        """The game raised an error of its own, the cause of this one."""
        names = _names(session_id, request_id=request_id)
        log.error("the game failed", game=game, command=kind, exc_info=failure, **names)

    def tool_failed(self, game: str, tool: str, session_id: str | None, failure: GameFailed) -> None:
        """The game's own code failed between a tool's call and a step, or a step and the tool's result."""
        log.error("the game failed", game=game, tool=tool, exc_info=failure, **_names(session_id))

    def committed(
        self, kind: Kind, session_id: str, snapshot: Snapshot, began: float, request_id: str | None = None
    ) -> None:
        """A reset or step was committed; called where `log_steps` says so. `began`: by time.monotonic()."""
        took_ms = round(1000 * (monotonic() - began), 3)
        names = _names(session_id, snapshot.episode_id, request_id)
        log.info(COMMITTED[kind], step=snapshot.step_count, took_ms=took_ms, **names)


def _names(session_id: str | None, episode_id: str | None = None, request_id: str | None = None) -> dict[str, Any]:
    """The fields that say what a line is about, those that are known."""
    names = {}
    if session_id is not None:
        names["session"] = session_hash(session_id)
    if episode_id is not None:
        names["episode"] = episode_id[:EPISODE_LENGTH]
    if request_id is not None:
        names["request"] = session_hash(request_id)
    return names
