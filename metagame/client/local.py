"""The local transport: the game in this process, no server, the same answers.

It goes through the wire codec, the session core and the state codec as a server does, so what
works here works there; its sessions are gone with the process.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from uuid import uuid4

from metagame.core.codec import decide_packed, unpack_snapshot
from metagame.core.remembered import entry_of, recall, remember, request_key
from metagame.core.session import EMPTY, Command, Kind, Reset, Step, check_legal
from metagame.games import Game, Observation
from metagame.games.echo import EchoGame
from metagame.wire.answers import Answer, StateAnswer, decode_frame, observation_frame
from metagame.wire.requests import (
    CloseRequest,
    McpRequest,
    Request,
    ResetRequest,
    StateRequest,
    encode_frame,
    parse_frame,
    validate_action,
)
from metagame.wire.requests import decode_frame as decode_request


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a store would keep of a session."""

    body: bytes
    remembered: bytes = b""


class LocalTransport:
    """Sessions of one game (echo unless told otherwise) in this process; several clients may share one."""

    def __init__(self, game: Game | None = None) -> None:
        self._game = EchoGame() if game is None else game
        self._sessions: dict[str, _Kept] = {}

    async def exchange(self, session_id: str, request: Request) -> Answer | None:
        """Decide and keep, as a server would."""
        received = decode_request(parse_frame(encode_frame(request)))
        assert not isinstance(received, McpRequest)  # noqa: S101 - no request of the client's is one
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
        key = request_key(received.request_id or uuid4().hex, received.kind, received.payload)
        answer = None if kept is None else recall(kept.remembered, kept.body, key)
        if answer is None:
            answer = self._carry_out(session_id, kept, command, key)
        return decode_frame(observation_frame(answer))[0]

    async def close(self) -> None:
        """Forget every session."""
        self._sessions.clear()

    def _carry_out(self, session_id: str, kept: _Kept | None, command: Command, key: bytes) -> Observation:
        before = None if kept is None else unpack_snapshot(kept.body)
        after, answer, body = decide_packed(self._game, before, command)
        remembered = b"" if kept is None else kept.remembered
        self._sessions[session_id] = _Kept(body, remember(entry_of(key, after.step_count), remembered))
        return answer
