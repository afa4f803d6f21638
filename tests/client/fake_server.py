"""A server that speaks the wire codec over one local game and fails as its script says."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as Handshake
from websockets.http11 import Response

from metagame.client.local import LocalTransport
from metagame.errors import CapacityReached, MetaGameError, SessionTakenOver, Unavailable
from metagame.wire.answers import Answer, StateAnswer, error_frame, observation_frame, state_frame
from metagame.wire.requests import CloseRequest, McpRequest, Request, decode_frame, parse_frame


class FakeServer:
    """`faults` holds one entry a frame to come, `handshakes` one a connection; empty: all goes well."""

    def __init__(self) -> None:
        self.game = LocalTransport()
        self.faults: deque[str] = deque()
        self.handshakes: deque[int] = deque()
        self.frames: list[Request] = []
        self.paths: list[str] = []
        self.sockets: set[ServerConnection] = set()
        self.seen = asyncio.Event()
        self.closed: Counter[str] = Counter()
        self.hold_close = False
        self.url = ""

    def handshake(self, connection: ServerConnection, request: Handshake) -> Response | None:
        self.paths.append(request.path)
        if self.handshakes and (status := self.handshakes.popleft()) != 101:
            return connection.respond(HTTPStatus(status), "no")
        return None

    async def serve(self, socket: ServerConnection) -> None:
        self.sockets.add(socket)
        assert socket.request is not None
        session_id = socket.request.path.split("/")[-2]
        try:
            async for text in socket:
                assert isinstance(text, str)
                request = decode_frame(parse_frame(text))
                assert not isinstance(request, McpRequest)
                self.frames.append(request)
                self.seen.set()
                if isinstance(request, CloseRequest):
                    self.closed["frame"] += 1
                    if self.hold_close:
                        await socket.recv()
                    await self.game.exchange(session_id, request)
                    return
                await FAULTS[self.faults.popleft() if self.faults else "none"](self, socket, session_id, request)
        except ConnectionClosed:
            pass
        finally:
            self.sockets.discard(socket)

    async def answer(self, session_id: str, request: Request, request_id: str | None = None) -> bytes:
        assert not isinstance(request, CloseRequest)
        request_id = request_id or request.request_id
        try:
            return frame_of(await self.game.exchange(session_id, request), request_id)
        except MetaGameError as error:
            return error_frame(error, request_id)


def frame_of(answer: Answer | None, request_id: str | None) -> bytes:
    assert answer is not None
    return state_frame(answer, request_id) if isinstance(answer, StateAnswer) else observation_frame(answer, request_id)


async def say(socket: ServerConnection, frame: bytes) -> None:
    await socket.send(frame, text=True)


async def _well(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    await say(socket, await server.answer(session_id, request))


async def _dropped_before(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    socket.transport.abort()


async def _dropped_after(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    await server.answer(session_id, request)
    socket.transport.abort()


async def _draining(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    await socket.close(1012)


async def _oversize(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    await socket.close(1009)


async def _garbage(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    await socket.send("hello")


async def _shifted(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    await say(socket, await server.answer(session_id, request, request_id="another"))


async def _shifted_error(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    await say(socket, error_frame(Unavailable("away", retryable=False), "another"))


async def _full(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    await say(socket, error_frame(CapacityReached("Server at capacity.", active_sessions=2, max_sessions=2)))
    await socket.close(1000)


async def _taken_over(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    await say(socket, error_frame(SessionTakenOver("A newer socket has attached.")))
    await socket.close(4001)


async def _taken_over_by_name(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    """As an answer to the request; the socket is closed a little later."""
    assert not isinstance(request, CloseRequest)
    await say(socket, error_frame(SessionTakenOver("A newer socket has attached."), request.request_id))


async def _taken_over_silently(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    await socket.close(4001)


async def _silent(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    await server.answer(session_id, request)


async def _late(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    """Committed at once, answered only together with the next frame's answer."""
    late = await server.answer(session_id, request)
    following = await socket.recv()
    assert isinstance(following, str)
    await say(socket, late)
    again = decode_frame(parse_frame(following))
    assert not isinstance(again, McpRequest)
    await say(socket, await server.answer(session_id, again))


async def _away(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    assert not isinstance(request, CloseRequest)
    await say(socket, error_frame(Unavailable("The store is away.", retryable=True), request.request_id))


async def _slowly_away(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    await asyncio.sleep(0.2)
    await _away(server, socket, session_id, request)


async def _away_after_a_freeze(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    await asyncio.sleep(1)
    await _away(server, socket, session_id, request)


async def _away_for_good(server: FakeServer, socket: ServerConnection, session_id: str, request: Request) -> None:
    assert not isinstance(request, CloseRequest)
    error = Unavailable("May have counted.", retryable=False, outcome="unknown")
    await say(socket, error_frame(error, request.request_id))


FAULTS: dict[str, Callable[[FakeServer, ServerConnection, str, Request], Awaitable[None]]] = {
    "none": _well,
    "dropped before": _dropped_before,
    "dropped after": _dropped_after,
    "draining": _draining,
    "oversize": _oversize,
    "garbage": _garbage,
    "shifted": _shifted,
    "shifted error": _shifted_error,
    "full": _full,
    "taken over": _taken_over,
    "taken over by name": _taken_over_by_name,
    "taken over silently": _taken_over_silently,
    "silent": _silent,
    "late": _late,
    "away": _away,
    "slowly away": _slowly_away,
    "away after a freeze": _away_after_a_freeze,
    "away for good": _away_for_good,
}


@asynccontextmanager
async def fake_server() -> AsyncIterator[FakeServer]:
    server = FakeServer()
    async with serve(server.serve, "127.0.0.1", 0, process_request=server.handshake, close_timeout=1) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        server.url = f"http://127.0.0.1:{port}"
        yield server
