"""A server's log, read as a machine reads it."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.servers import Server

LIMIT_S = 20.0

Line = dict[str, Any]


def lines(server: Server) -> list[Line]:
    """Every line, each of which is one JSON object."""
    return [json.loads(line) for line in server.log.splitlines()]


def events(server: Server, session: str | None = None) -> list[Line]:
    """The lines, those about the session of this hash if one is given."""
    return [line for line in lines(server) if session is None or line.get("session") == session]


def until(server: Server, event: str, **fields: object) -> Line:
    """The first line of this event, with these fields."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        for line in lines(server):
            if line["event"] == event and fields.items() <= line.items():
                return line
        assert time.monotonic() < deadline, f"no line {event!r} with {fields}: {server.log}"
        time.sleep(0.02)
