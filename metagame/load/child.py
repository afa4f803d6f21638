"""`python -m metagame.load.child`: one process of a fleet.

Commands come on standard input, a word and JSON in each line: `open` with Sockets, `play` with a Play,
`stop` while it plays, `close`. Each but `stop` is answered on standard output with a line of JSON, which
says how many samples follow as doubles. It ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from array import array
from typing import Any

import uvloop

from metagame.limits import allow_open_files
from metagame.load.opening import close_all, open_all
from metagame.load.player import loop_of
from metagame.load.results import Played, to_wire
from metagame.load.spec import Play, Sockets
from metagame.load.stepper import Stepper


async def serve() -> None:
    """Do as told until the input ends."""
    lines = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    sockets: Sockets
    steppers: list[Stepper] = []
    while line := (await lines.readline()).decode():
        word, _, text = line.strip().partition(" ")
        if word == "open":
            sockets = Sockets.from_json(text)
            steppers, opened = await open_all(sockets)
            _say(*to_wire(opened))
        elif word == "play":
            played = await _play(steppers, Play.from_json(text), sockets.timeout_s, lines)
            if played is None:
                return
            _say(*to_wire(played))
        elif word == "close":
            await close_all(steppers, sockets)
            steppers = []
            _say({}, array("d"))


async def _play(steppers: list[Stepper], play: Play, timeout_s: float, lines: asyncio.StreamReader) -> Played | None:
    """Play until it is done; None when the parent has gone."""
    loop = loop_of(steppers, play, timeout_s)
    playing = asyncio.ensure_future(loop.run())
    told = asyncio.ensure_future(lines.readline())
    await asyncio.wait([playing, told], return_when=asyncio.FIRST_COMPLETED)
    if told.done():
        if not told.result():
            playing.cancel()
            return None
        loop.stop()
        return await playing
    told.cancel()
    await asyncio.gather(told, return_exceptions=True)
    return await playing


def _say(fields: dict[str, Any], samples: array[float]) -> None:
    sys.stdout.buffer.write(json.dumps(fields | {"samples": len(samples)}).encode() + b"\n")
    sys.stdout.buffer.write(samples)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    allow_open_files()
    uvloop.run(serve())
