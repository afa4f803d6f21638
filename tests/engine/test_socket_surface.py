"""The socket surface as its ASGI server sees it: what is sent, in which order."""

import asyncio
import gc
import json
from collections.abc import Coroutine
from typing import Any, Self

import pytest

from metagame.errors import SessionLost
from services.attachment import Attachment
from services.engine import Engine
from services.lifecycle import Lifecycle
from services.store.base import UnreadableRecord
from services.surfaces import websocket
from services.surfaces.channel import EXTENSION, DirectChannel, Message
from services.surfaces.websocket import WebSocketSurface
from tests.engine.conftest import EngineOf
from tests.engine.scripted import LOST_AFTER, LOST_BEFORE, REFUSED, Event, Gate, ScriptedStore

pytestmark = pytest.mark.anyio
SHORT_S = 0.2
MANY = 2_000
"""More than Python calls may be nested."""
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
        self.task = asyncio.create_task(self._run(WebSocketSurface(engine, lifecycle, max_frame_bytes=1000), scope))

    async def _run(self, surface: WebSocketSurface, scope: Message) -> None:
        await surface(scope, self._incoming.get, self.sent.put)

    async def opened(self) -> Self:
        assert (await self.sent.get())["type"] == "websocket.accept"
        return self

    def comes(self, message: Message) -> None:
        self._incoming.put_nowait(message)

    def say(self, frame: dict[str, Any]) -> None:
        self.comes({"type": "websocket.receive", "text": json.dumps(frame)})

    async def answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads((await self.sent.get())["text"])
        return answer

    async def ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        self.say(frame)
        return await self.answer()

    async def close_code(self) -> int:
        message = await self.sent.get()
        assert message["type"] == "websocket.close"
        code: int = message["code"]
        return code

    async def drop(self) -> None:
        self.comes({"type": "websocket.disconnect", "code": 1006})
        await self.task


class DirectSocket(AsgiSocket):
    """One of our own server, which offers a direct channel; it is its own wire."""

    congested = False

    async def _run(self, surface: WebSocketSurface, scope: Message) -> None:
        self._channel = DirectChannel(self, asyncio.get_running_loop())
        while not self._incoming.empty():
            self._channel.put_nowait(self._incoming.get_nowait())
        scope["extensions"] = {EXTENSION: {"open": lambda: self._channel}}
        await surface(scope, self._incoming.get, self.sent.put)
        await self._work

    def comes(self, message: Message) -> None:
        if hasattr(self, "_channel"):
            self._channel.put_nowait(message)
        else:
            super().comes(message)

    def serve(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = work

    async def send(self, message: Any) -> None:
        self.sent.put_nowait(message)

    async def send_text(self, text: bytes) -> None:
        self.post(text)

    def post(self, text: bytes) -> None:
        self.sent.put_nowait({"type": "websocket.send", "text": text.decode()})

    async def send_close(self, code: int) -> None:
        self.sent.put_nowait({"type": "websocket.close", "code": code})

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass


SocketType = type[AsgiSocket]


@pytest.fixture(params=[AsgiSocket, DirectSocket])
def kind(request: pytest.FixtureRequest) -> SocketType:
    kind: SocketType = request.param
    return kind


def lifecycle() -> Lifecycle:
    return Lifecycle(drain_timeout_s=1)


@pytest.mark.parametrize("path", ["/sessions/s/ws", "/ws"])
async def test_a_socket_that_is_seen_to_close_has_ended_its_session(
    kind: SocketType, engine: Engine, path: str
) -> None:
    socket = await kind(engine, lifecycle(), path).opened()
    await socket.ask(RESET)
    [session], _ = await engine.page(None, 10)
    socket.say({"type": "close"})
    assert await socket.close_code() == 1000
    with pytest.raises(SessionLost):
        await engine.inspect(session.session_id)
    await socket.drop()
    assert not engine.attachments


async def test_a_handshake_whose_client_has_left_takes_the_session_from_nobody(
    kind: SocketType, engine: Engine
) -> None:
    owner = await kind(engine, lifecycle()).opened()
    await owner.ask(RESET)
    ghost = kind(engine, lifecycle())
    await ghost.drop()
    assert ghost.sent.empty()
    assert (await owner.ask(STEP))["data"]["reward"] == 0.3
    await owner.drop()


async def test_a_drain_closes_behind_an_answer_that_is_an_error(
    kind: SocketType, engine_of: EngineOf, store: ScriptedStore
) -> None:
    leaving = lifecycle()
    socket = await kind(engine_of(timeout_s=SHORT_S), leaving).opened()
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


async def test_a_drain_closes_an_idle_socket_and_carries_out_no_frame_that_crosses_it(
    kind: SocketType, engine: Engine
) -> None:
    leaving = lifecycle()
    socket = await kind(engine, leaving).opened()
    await socket.ask(RESET)
    for open_socket in leaving.sockets:
        open_socket.drain()
    socket.say(STEP)
    assert await socket.close_code() == 1012
    await socket.task
    assert (await engine.state("s")).step_count == 0


def draining(leaving: Lifecycle) -> Event:
    """The worker is told to leave while the store is at work."""

    async def drain() -> None:
        for open_socket in leaving.sockets:
            open_socket.drain()

    return drain


async def test_a_drain_closes_behind_an_answer_that_is_on_its_way(
    kind: SocketType, engine: Engine, store: ScriptedStore
) -> None:
    leaving = lifecycle()
    socket = await kind(engine, leaving).opened()
    await socket.ask(RESET)
    store.script["commit"].append(draining(leaving))
    assert (await socket.ask(STEP))["data"]["reward"] == 0.3
    assert await socket.close_code() == 1012
    await socket.drop()
    assert (await engine.state("s")).step_count == 1


async def test_steps_sent_ahead_are_answered_in_order_however_many(kind: SocketType, engine: Engine) -> None:
    socket = await kind(engine, lifecycle()).opened()
    await socket.ask(RESET)
    for number in range(MANY):
        socket.say(STEP if number % 100 else {"type": "state"})
    counts = []
    for number in range(MANY):
        data = (await socket.answer())["data"]
        counts.append(data["metadata"]["step"] if number % 100 else data["step_count"])
    assert counts == [number - number // 100 for number in range(MANY)]
    await socket.drop()


async def test_a_client_that_leaves_with_a_step_under_way_has_made_it_and_its_session_is_left(
    kind: SocketType, engine: Engine, store: ScriptedStore
) -> None:
    socket = await kind(engine, lifecycle()).opened()
    await socket.ask(RESET)
    gate = Gate()
    store.script["commit"].append(gate)
    socket.say(STEP)
    await gate.reached.wait()
    leaves = asyncio.create_task(socket.drop())
    await asyncio.sleep(0.01)
    assert engine.attachments
    gate.open()
    await leaves
    assert not engine.attachments
    assert (await engine.state("s")).step_count == 1
    assert not (await engine.inspect("s")).attached


async def test_a_step_whose_answer_was_lost_is_sent_again_and_answered_once(
    kind: SocketType, engine: Engine, store: ScriptedStore
) -> None:
    socket = await kind(engine, lifecycle()).opened()
    await socket.ask(RESET)
    store.script["commit"].extend([LOST_AFTER, LOST_BEFORE, REFUSED])
    assert (await socket.ask(STEP))["data"]["metadata"]["step"] == 1
    assert len({commit.generation for commit in store.commits()}) == 1
    assert len(store.commits()) == 4
    assert (await socket.ask(STEP))["data"]["metadata"]["step"] == 2
    await socket.drop()


async def test_a_step_on_a_session_that_was_taken_over_says_so_and_closes(
    kind: SocketType, engine: Engine, other: Engine
) -> None:
    older = await kind(engine, lifecycle()).opened()
    await older.ask(RESET)
    newer = await kind(other, lifecycle()).opened()
    assert (await older.ask(STEP))["data"]["code"] == "SESSION_ERROR"
    assert await older.close_code() == 4001
    await older.drop()
    assert (await newer.ask(STEP))["data"]["metadata"]["step"] == 1
    await newer.drop()


async def test_a_record_of_a_newer_release_is_an_error_and_the_socket_is_let_go(
    kind: SocketType, engine: Engine, store: ScriptedStore
) -> None:
    socket = await kind(engine, lifecycle()).opened()
    await socket.ask(RESET)
    store.always["commit"] = UnreadableRecord()
    assert (await socket.ask(STEP))["data"]["retryable"] is True
    assert await socket.close_code() == 1012
    await socket.drop()


async def test_a_client_that_reads_slowly_has_no_step_begun_before_it_has_read(
    engine: Engine, store: ScriptedStore
) -> None:
    socket = await DirectSocket(engine, lifecycle()).opened()
    await socket.ask(RESET)
    await socket.ask(STEP)
    assert len(store.soon) == 1
    socket.congested = True
    await socket.ask(STEP)
    assert len(store.soon) == 1
    await socket.drop()


async def test_a_bug_behind_a_commit_ends_its_own_socket_and_not_the_store_s_callback(
    engine: Engine, store: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = await DirectSocket(engine, lifecycle()).opened()
    await socket.ask(RESET)

    def broken(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr("services.surfaces.websocket.packed_frame", broken)
    socket.say(STEP)
    with pytest.raises(ZeroDivisionError):
        await socket.task
    assert all(soon.exception() is None for soon in store.soon)
    assert not engine.attachments
    assert (await engine.state("s")).step_count == 1


async def test_a_socket_that_has_gone_is_no_garbage(kind: SocketType, engine: Engine) -> None:
    def left() -> int:
        return sum(isinstance(one, websocket.Socket | Attachment) for one in gc.get_objects())

    gc.collect()
    before = left()
    gc.disable()
    try:
        for closes in (True, False):
            socket = await kind(engine, lifecycle(), "/ws").opened()
            await socket.ask(RESET)
            await socket.ask(STEP)
            if closes:
                socket.say({"type": "close"})
                await socket.close_code()
            await socket.drop()
            del socket
        assert left() == before
    finally:
        gc.enable()
