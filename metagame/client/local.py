"""The local transport: the game in this process, no server, the same answers.

It goes through the wire codec, the session core and the state codec as a server does, so what
works here works there; its sessions are gone with the process.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from uuid import uuid4

from metagame.core.codec import (
    RequestKey,
    entry_step,
    pack,
    request_key,
    unpack_answer,
    unpack_snapshot,
)
from metagame.core.session import EMPTY, Command, Kind, Reset, Snapshot, Step, check_legal, decide
from metagame.errors import AnswerForgotten, GameFailed, MetaGameError, RequestConflict
from metagame.games import Game, Observation
from metagame.games.echo import EchoGame
from metagame.wire.answers import Answer, StateAnswer, decode_frame, observation_frame
from metagame.wire.requests import (
    CloseRequest,
    Request,
    ResetRequest,
    StateRequest,
    encode_frame,
    parse_frame,
    validate_action,
)
from metagame.wire.requests import decode_frame as decode_request

REMEMBERED = 8


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a store would keep of a session."""

    body: bytes
    remembered: tuple[bytes, ...] = ()


class LocalTransport:
    """Sessions of one game (echo unless told otherwise) in this process; several clients may share one."""

    def __init__(self, game: Game | None = None) -> None:
        self._game = EchoGame() if game is None else game
        self._sessions: dict[str, _Kept] = {}

    async def exchange(self, session_id: str, request: Request) -> Answer | None:
        """Decide and keep, as a server would."""
        received = decode_request(parse_frame(encode_frame(request)))
        kept = self._sessions.get(session_id)
        if isinstance(received, CloseRequest):
            self._sessions.pop(session_id, None)
            return None
        if isinstance(received, StateRequest):
            snapshot = None if kept is None else unpack_snapshot(kept.body)
            check_legal(snapshot, Kind.STATE)
            stands = snapshot or EMPTY
            return StateAnswer(stands.episode_id, stands.step_count)
        command: Command
        if isinstance(received, ResetRequest):
            seed = secrets.randbits(63) if received.seed is None else received.seed
            command = Reset(received.episode_id or str(uuid4()), seed, received.options, received.expect)
        else:
            command = Step(validate_action(self._game.action_type, received.action), received.expect)
        key = request_key(received.request_id or uuid4().hex, received.kind.value, received.payload)
        answer = None if kept is None else _recall(kept, key)
        if answer is None:
            answer = self._carry_out(session_id, kept, command, key)
        return decode_frame(observation_frame(answer))[0]

    async def close(self) -> None:
        """Forget every session."""
        self._sessions.clear()

    def _carry_out(self, session_id: str, kept: _Kept | None, command: Command, key: RequestKey) -> Observation:
        before = None if kept is None else unpack_snapshot(kept.body)
        after, answer, body = self._decide(before, command)
        remembered = () if kept is None else kept.remembered
        entries = (key.entry(after.step_count), *remembered)[:REMEMBERED]
        self._sessions[session_id] = _Kept(body, entries)
        return answer

    def _decide(self, snapshot: Snapshot | None, command: Command) -> tuple[Snapshot, Observation, bytes]:
        try:
            after, answer = decide(self._game, snapshot, command)
            body = pack(after, answer)
        except MetaGameError:
            raise
        except Exception as failure:  # the game is somebody's code: its failure is an answer, not a crash
            message = "The game failed on this request, and nothing was changed. This error's cause says why."
            raise GameFailed(message) from failure
        return after, answer, body


def _recall(kept: _Kept, key: RequestKey) -> Observation | None:
    """The answer to a request that was carried out before; None if it was not."""
    for age, entry in enumerate(kept.remembered):
        if not entry.startswith(key.id_hash):
            continue
        if not entry.startswith(key.id_hash + key.digest):
            message = "This request_id was already used for another command in this session. Use a new one."
            raise RequestConflict(message)
        answer = unpack_answer(kept.body) if age == 0 else None
        if answer is None:
            step = entry_step(entry)
            message = f"This request was already committed as step {step}; its answer is no longer kept."
            raise AnswerForgotten(message, step=step)
        return answer
    return None
