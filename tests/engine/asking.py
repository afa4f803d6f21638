"""Requests in few words, and what an engine's tests look at."""

from __future__ import annotations

import asyncio

from metagame.core.session import Expect
from metagame.errors import MetaGameError
from metagame.games import Observation
from metagame.wire.requests import ResetRequest, StepRequest
from services.attachment import Attachment
from services.engine import Engine
from services.submission import Submission

Place = tuple[str | None, int]
"""Episode and step count."""


def step(message: str = "one", request_id: str | None = None, expect: Place | None = None) -> StepRequest:
    return StepRequest({"message": message}, request_id, None if expect is None else Expect(*expect))


def reset(episode_id: str | None = "e", request_id: str | None = None, expect: Place | None = None) -> ResetRequest:
    return ResetRequest(
        episode_id=episode_id, request_id=request_id, expect=None if expect is None else Expect(*expect)
    )


async def stands(engine: Engine, session_id: str = "s") -> Place:
    """Episode and step count."""
    state = await engine.state(session_id)
    return state.episode_id, state.step_count


async def steps(engine: Engine, count: int, session_id: str = "s") -> None:
    """Some steps by a client without a socket."""
    for number in range(count):
        await engine.step(session_id, step(f"other {number}"))


def step_number(observation: Observation) -> int:
    number: int = observation.metadata["step"]
    return number


def age(engine: Engine) -> None:
    """Make every lease one that was last renewed long ago."""
    for attachment in engine.attachments:
        attachment.leased_at = -1e9


class Socket:
    """What a surface's socket is to the engine: an attachment that may be told it is lost."""

    begins = False
    """Whether steps are begun without a coroutine where that is possible, as under our own server."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.told: list[MetaGameError] = []

    async def open(self, session_id: str | None = "s") -> Socket:
        self.attachment: Attachment = await self.engine.open(session_id, self.told.append)
        return self

    @property
    def session_id(self) -> str:
        return self.attachment.session_id

    async def step(self, request: StepRequest | None = None) -> Observation:
        request = request or step()
        told: asyncio.Future[Submission] = asyncio.get_running_loop().create_future()
        if self.begins and self.engine.step_soon(request, self.attachment, told.set_result):
            submission = await told
            return submission.settle() or await submission.run()
        return await self.engine.step(self.session_id, request, self.attachment)

    async def reset(self, request: ResetRequest | None = None) -> Observation:
        return await self.engine.reset(self.session_id, request or reset(), self.attachment)

    async def state(self) -> Place:
        state = await self.engine.state(self.session_id, self.attachment)
        return state.episode_id, state.step_count

    async def leave(self, *, closed: bool) -> None:
        await self.engine.leave(self.attachment, closed=closed)
