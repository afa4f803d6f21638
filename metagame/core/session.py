"""What a session may do and what a command makes of it.

The legality table and `decide()` live here. Neither knows a clock, a store, a surface or the
rules of any game; whatever is random or timed in a command was put in before it came here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from metagame.errors import EpisodeOver, InvalidSessionId, MetaGameError, NoEpisode, SessionLost, SessionMoved
from metagame.games import Game, Observation, State
from metagame.value import value

SESSION_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)


class Phase(StrEnum):
    """Where a session is between two commands."""

    ABSENT = "absent"
    READY = "ready"
    RUNNING = "running"
    DONE = "done"


_ABSENT, _READY, _RUNNING, _DONE = Phase  # by name: to look one up on its class costs ten times as much on Python 3.11


class Kind(StrEnum):
    """What a client can ask of a session."""

    RESET = "reset"
    STEP = "step"
    STATE = "state"


LEGAL: dict[tuple[Phase, Kind], type[MetaGameError] | None] = {
    (Phase.ABSENT, Kind.RESET): None,
    (Phase.ABSENT, Kind.STEP): SessionLost,
    (Phase.ABSENT, Kind.STATE): SessionLost,
    (Phase.READY, Kind.RESET): None,
    (Phase.READY, Kind.STEP): NoEpisode,
    (Phase.READY, Kind.STATE): None,
    (Phase.RUNNING, Kind.RESET): None,
    (Phase.RUNNING, Kind.STEP): None,
    (Phase.RUNNING, Kind.STATE): None,
    (Phase.DONE, Kind.RESET): None,
    (Phase.DONE, Kind.STEP): EpisodeOver,
    (Phase.DONE, Kind.STATE): None,
}
"""None: it goes on. Else the error that refuses it."""

REFUSALS: dict[type[MetaGameError], str] = {
    SessionLost: (
        "This session does not exist: it ended, expired, or was never started. Send a reset to start an episode."
    ),
    NoEpisode: (
        "No episode is running in this session. Send a reset first."
        " (A server set to METAGAME_STEP_BEFORE_RESET=allow starts one by itself on anonymous sockets.)"
    ),
    EpisodeOver: "This episode is over (done is true). Send a reset to start the next one.",
}


@value
class Snapshot:
    """A session's whole state at one generation; `episode_id` is None before the first reset."""

    episode_id: str | None = None
    step_count: int = 0
    done: bool = False
    state: State = None


@value
class Expect:
    """Where the client says the session stands; `episode_id` None means that no episode runs."""

    episode_id: str | None
    step_count: int


@value
class Reset:
    """Start an episode; id and seed are filled in, so that deciding again decides the same."""

    episode_id: str
    seed: int
    options: Mapping[str, Any]
    expect: Expect | None = None

    kind = Kind.RESET


@value
class Step:
    """Take one action. `begin` is the episode to start where none runs, if that is allowed."""

    action: BaseModel
    expect: Expect | None = None
    begin: Reset | None = None

    kind = Kind.STEP


Command = Reset | Step
EMPTY = Snapshot()


def check_session_id(session_id: str) -> str:
    """Return the id, or raise InvalidSessionId."""
    if SESSION_ID.fullmatch(session_id) is None:
        message = "A session id is 1 to 128 characters of A-Z a-z 0-9 . _ - and nothing else."
        raise InvalidSessionId(message)
    return session_id


def phase_of(snapshot: Snapshot | None) -> Phase:
    """Where a session is; one without a snapshot is absent."""
    if snapshot is None:
        return _ABSENT
    if snapshot.episode_id is None:
        return _READY
    return _DONE if snapshot.done else _RUNNING


def check_legal(snapshot: Snapshot | None, kind: Kind) -> None:
    """Raise the table's error where the session's phase does not take the command."""
    refusal = LEGAL[phase_of(snapshot), kind]
    if refusal is not None:
        raise refused(refusal)


def refused(refusal: type[MetaGameError]) -> MetaGameError:
    """The table's error in words."""
    return refusal(REFUSALS[refusal])


def check_expected(snapshot: Snapshot | None, expect: Expect) -> None:
    """Raise SessionMoved unless the session stands where the client says."""
    stands = snapshot or EMPTY
    if (expect.episode_id, expect.step_count) != (stands.episode_id, stands.step_count):
        message = (
            "The session is not where this request expects it, so nothing was done."
            " Ask for its state, then reset or go on from there."
        )
        raise SessionMoved(message, episode_id=stands.episode_id, step_count=stands.step_count)


def decide(game: Game, snapshot: Snapshot | None, command: Command) -> tuple[Snapshot, Observation]:
    """The snapshot and observation that a command leads to; snapshot None is an absent session.

    Pure. Raises the legality table's error, SessionMoved where `expect` does not hold, or
    what the game raises.
    """
    if isinstance(command, Step) and snapshot is None:
        check_legal(None, Kind.STEP)  # a session that is lost is called so, not one that moved
    if command.expect is not None:
        check_expected(snapshot, command.expect)
    if isinstance(command, Step):
        if command.begin is not None and phase_of(snapshot) is Phase.READY:
            snapshot, _ = decide(game, snapshot, command.begin)
        check_legal(snapshot, command.kind)
        assert snapshot is not None  # noqa: S101 - the table refuses a step of an absent session
        state, observation = game.step(snapshot.state, command.action)
        return Snapshot(snapshot.episode_id, snapshot.step_count + 1, observation.done, state), observation
    check_legal(snapshot, command.kind)
    state, observation = game.reset(command.seed, command.options)
    return Snapshot(command.episode_id, 0, observation.done, state), observation
