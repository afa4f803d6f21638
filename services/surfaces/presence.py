"""Whether a client is still there: a worker that slept wakes with what clients have long given up.

A balancer, or the client itself, has sent such a request elsewhere. Carried out now it would count twice,
since the session may have gone on past all the requests that it remembers; a handshake would take the
session from who has it now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

from fastapi import Request
from starlette.types import Message

from metagame.errors import InvalidRequest

_TURNS = 3
"""Turns of the event loop in which a disconnect that has arrived is seen."""


async def hear_disconnects() -> None:
    """Let the event loop take note of who has left."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


async def check_present(request: Request) -> None:
    """Raise InvalidRequest, which nobody reads, where an HTTP client has left; its body has been read."""
    await hear_disconnects()
    if _has_left(request):
        message = "The client left before its request was carried out."
        raise InvalidRequest(message)


def _has_left(request: Request) -> bool:
    """Whether a disconnect is there to be received; `is_disconnected` asks the same by a cancelled scope, dearly."""
    waiting = cast("Coroutine[Any, Any, Message]", request.receive())
    try:
        waiting.send(None)
    except StopIteration as received:
        message: Message = received.value
        return bool(message["type"] == "http.disconnect")
    waiting.close()
    return False
