"""A socket as a raw client has it: frames out, frames in."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect

WAIT_S = 10.0
INTERNAL = re.compile(
    r"[a-z]Error\b|[a-z]Exception\b|Traceback|has no attribute|object at 0x|\.py\b|site-packages"
    r"|[Pp]ydantic|[Ss]tarlette|[Ff]ast[Aa][Pp][Ii]|uvicorn|orjson|metagame\.|services\."
)
"""What no answer may contain: names of exceptions, files or libraries."""


@contextmanager
def open_socket(url: str, path: str = "/ws", **headers: str) -> Iterator[ClientConnection]:
    with connect(
        url + path,
        additional_headers=headers,
        open_timeout=WAIT_S,
        max_size=None,
        proxy=None,
        compression=None,
    ) as socket:
        yield socket


def ask(socket: ClientConnection, frame: Any) -> dict[str, Any]:
    """The answer to a frame: text and bytes as they are, anything else as JSON."""
    socket.send(frame if isinstance(frame, (str, bytes)) else json.dumps(frame))
    answer: dict[str, Any] = json.loads(socket.recv(timeout=WAIT_S))
    return answer


def step_number(socket: ClientConnection) -> int:
    """Take a step; the number it had."""
    answer = ask(socket, {"type": "step", "data": {"message": "hi"}})
    assert answer["type"] == "observation", answer
    number: int = answer["data"]["metadata"]["step"]
    return number
