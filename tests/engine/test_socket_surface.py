"""The socket surface as its ASGI server sees it: what is sent, in which order."""

import asyncio
import json
from typing import Any

import pytest

from metagame.errors import SessionLost
from services.engine import Engine
from services.lifecycle import Lifecycle
from services.surfaces.channel import Message
from services.surfaces.websocket import WebSocketSurface
from tests.engine.conftest import EngineOf
from tests.engine.scripted import REFUSED, ScriptedStore

pytestmark = pytest.mark.anyio
SHORT_S = 0.2
RESET = {"type": "reset", "data": {"episode_id": "e"}}
STEP = {"type": "step", "data": {"message": "one"}}


class AsgiSocket:
    """A server's end of one socket."""

    def __init__(self, engine: Engine, lifecycle: Lifecycle, path: str = "/sessions/s/ws") -> None:
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})
        scope: Message = {"type": "websocket", "path": path, "headers": [], "query_string": b"", "path_params": {}}
        if path != "/ws":
            scope["path_params"] = {"session_id": path.split("/")[2]}
        surface = WebSocketSurface(engine, lifecycle, max_frame_bytes=1000)
        self.task = asyncio.create_task(surface(scope, self._incoming.get, self.sent.put))

    async def opened(self) -> "AsgiSocket":
        assert (await self.sent.get())["type"] == "websocket.accept"
        return self

    def say(self, frame: dict[str, Any]) -> None:
        self._incoming.put_nowait({"type": "websocket.receive", "text": json.dumps(frame)})

    async def ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        self.say(frame)
        answer: dict[str, Any] = json.loads((await self.sent.get())["text"])
        return answer

    async def close_code(self) -> int:
        message = await self.sent.get()
        assert message["type"] == "websocket.close"
        code: int = message["code"]
        return code

    async def drop(self) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await self.task


def lifecycle() -> Lifecycle:
    return Lifecycle(drain_timeout_s=1)


@pytest.mark.parametrize("path", ["/sessions/s/ws", "/ws"])
async def test_a_socket_that_is_seen_to_close_has_ended_its_session(engine: Engine, path: str) -> None:
    socket = await AsgiSocket(engine, lifecycle(), path).opened()
    await socket.ask(RESET)
    [session], _ = await engine.page(None, 10)
    socket.say({"type": "close"})
    assert await socket.close_code() == 1000
    with pytest.raises(SessionLost):
        await engine.inspect(session.session_id)
    await socket.drop()
    assert not engine.attachments


async def test_a_handshake_whose_client_has_left_takes_the_session_from_nobody(engine: Engine) -> None:
    owner = await AsgiSocket(engine, lifecycle()).opened()
    await owner.ask(RESET)
    ghost = AsgiSocket(engine, lifecycle())
    await ghost.drop()
    assert ghost.sent.empty()
    assert (await owner.ask(STEP))["data"]["reward"] == 0.3
    await owner.drop()


async def test_a_drain_closes_behind_an_answer_that_is_an_error(engine_of: EngineOf, store: ScriptedStore) -> None:
    leaving = lifecycle()
    socket = await AsgiSocket(engine_of(timeout_s=SHORT_S), leaving).opened()
    await socket.ask(RESET)

    async def drained_while_busy() -> None:
        for open_socket in leaving.sockets:
            open_socket.drain()
        raise REFUSED.error()

    store.always["commit"] = drained_while_busy
    answer = await socket.ask(STEP)
    assert (answer["type"], answer["data"]["retryable"]) == ("error", True)
    assert await socket.close_code() == 1012
    await socket.drop()


async def test_a_drain_closes_an_idle_socket_and_carries_out_no_frame_that_crosses_it(engine: Engine) -> None:
    leaving = lifecycle()
    socket = await AsgiSocket(engine, leaving).opened()
    await socket.ask(RESET)
    for open_socket in leaving.sockets:
        open_socket.drain()
    socket.say(STEP)
    assert await socket.close_code() == 1012
    await socket.task
    assert (await engine.state("s")).step_count == 0
