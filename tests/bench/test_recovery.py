"""J: what counts as recovered, and what as an error."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from bench.targets import Options
from bench.targets.recovery import Client, Round, Scale, measure, play_round
from metagame.cli import processes
from metagame.load.spec import Sockets

pytestmark = pytest.mark.anyio
SMALL = Scale(sessions=40, think_s=0.05)

Answers = Callable[[dict[str, Any]], int | None]
"""The step that a server says this frame was; None to drop the socket instead of answering."""


@asynccontextmanager
async def server(answers: Answers) -> AsyncIterator[int]:
    """The port of a server that answers resets rightly and steps as told."""

    async def talk(socket: ServerConnection) -> None:
        async for text in socket:
            frame = json.loads(text)
            step = 0 if frame["type"] == "reset" else answers(frame)
            if step is None:
                socket.transport.abort()
                return
            data = {"observation": {}, "metadata": {"step": step}}
            await socket.send(json.dumps({"type": "observation", "data": data}))

    async with serve(talk, "127.0.0.1", 0) as listening:
        port: int = next(iter(listening.sockets)).getsockname()[1]
        yield port


async def played(first: Answers, second: Answers) -> Round:
    """What one client finds whose first server drops it at its first step."""
    found = Round(Scale(sessions=1, think_s=0.001, steps_after=2))
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(server(answers)) for answers in (first, second)]
        addresses = tuple(("127.0.0.1", port) for port in ports)
        client = Client(0, Sockets(addresses=addresses, count=1, fleet="f"), found)
        stack.callback(client.drop)
        await client.begin()
        await client.play()
    return found


async def test_a_step_is_sent_again_with_its_request_id_and_the_session_goes_on_from_there() -> None:
    sent: list[str] = []

    def drop(frame: dict[str, Any]) -> None:
        sent.append(frame["request_id"])

    def answer(frame: dict[str, Any]) -> int:
        sent.append(frame["request_id"])
        return len(sent) - 1

    found = await played(drop, answer)
    assert found.errors == []
    assert len(found.resumed_s) == 1
    assert sent[0] == sent[1]
    assert len(set(sent)) == 3


async def test_a_step_that_was_lost_or_repeated_is_an_error() -> None:
    found = await played(lambda _: None, lambda _: 2)
    assert [error.partition(":")[0] for error in found.errors] == ["step 1", "step 3"]


async def test_a_session_that_does_not_come_back_is_an_error(tmp_path: Path) -> None:
    scale = Scale(sessions=3, think_s=0.01, steps_before=1, deadline_s=2)
    with processes.worker("first", tmp_path) as first:
        nowhere = processes.Child(processes.free_port(), first.process)
        found = await play_round(first, nowhere, scale)
    assert found.resumed_s == []
    assert found.errors == ["a session that did not come back"] * 3


def test_all_sessions_of_a_killed_worker_step_on(options: Options) -> None:
    result = measure(options, SMALL)
    p99, errors = result.checks
    assert 0 < p99.value < p99.limit
    assert errors.value == 0
    assert len(result.figures["resumed_s"][0]) == SMALL.sessions
