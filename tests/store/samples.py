"""Requests as an engine would make them, in short."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from metagame.core.remembered import entry_of, request_key
from metagame.core.session import Kind
from services.store.base import Commit, Draft, Origin

ONE = b"attachment-one-1"
TWO = b"attachment-two-2"
WAIT_S = 20.0


def generation(count: int, draw: int = 0) -> bytes:
    return count.to_bytes(8, "big") + draw.to_bytes(8, "big")


def entry(request_id: str, command: object = "step", step: int = 0) -> bytes:
    return entry_of(request_key(request_id, Kind.STEP, command), step)


def draft(request_id: str = "", *, origin: Origin = Origin.NAMED, attachment: bytes = b"", draw: int = 0) -> Draft:
    remembered = entry(request_id) if request_id else b""
    return Draft(origin, generation(0, draw), b"body 0", remembered, attachment)


def step(count: int, request_id: str | None = None, *, attachment: bytes = b"", draw: int = 0) -> Commit:
    """The commit that leads from generation count - 1 to count."""
    name = f"request {count}" if request_id is None else request_id
    return Commit(
        entry(name, step=count), generation(count - 1), generation(count, draw), b"body %d" % count, attachment
    )


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    """Wait for an event."""
    deadline = time.monotonic() + WAIT_S
    while not await happened():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)
