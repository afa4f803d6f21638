"""A socket's frames, in and out: what the socket surface knows of the server that it runs under.

Under our own server (protocol.py) frames come and go without ASGI's messages, queue and middleware,
which cost as much as a step itself; the server offers that in the scope. Under any other server, and in
tests of the surface alone, the same is done over ASGI's two calls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from typing import Any, Protocol

from metagame.wire.keys import PROTOCOL

from .presence import hear_disconnects

EXTENSION = "metagame.channel"
"""In the scope's extensions: `open`, a call that gives the socket's channel, in the place of ASGI's `receive`."""
WAITING = 1
"""Frames that may wait for their answers before no more are read: what a client sends ahead stays with it."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Frame = str | bytes
"""The text of a text frame; a binary frame's bytes."""
Begin = Callable[[Frame], bool]
"""Takes a frame as it comes and says `done` to the channel later, or at once; False leaves it to the work."""


class Channel(Protocol):
    """One socket; `accept` it before anything is sent, and `close` it once or never."""

    async def serve(self, work: Coroutine[Any, Any, None]) -> None:
        """Have the work, which makes all other calls, done until its end, maybe after this returns."""

    async def is_gone(self) -> bool:
        """Whether the client left while its handshake waited for this worker; asked before anything else."""

    def accept(self) -> Coroutine[Any, Any, None]:
        """Answer the handshake."""

    def offer(self, begin: Begin | None) -> None:
        """Have each frame that comes while the work waits for one offered to `begin` first, if the channel can."""

    def done(self, rest: Any = None) -> None:
        """What was begun is over; what is left of it, if anything, the work receives as if it had come."""

    async def receive(self) -> Any:
        """The next frame, or what was left of one that was begun; None once the socket is closed by whichever side."""

    def send(self, text: bytes) -> Coroutine[Any, Any, None]:
        """Send a text frame, waiting while the client reads too slowly; raises OSError where it has left."""

    def post(self, text: bytes) -> None:
        """Send the text frame that answers what was begun; nothing where the client has left."""

    def close(self, code: int) -> Coroutine[Any, Any, None]:
        """Begin the closing handshake."""


def channel_of(scope: Message, receive: Receive, send: Send) -> Channel:
    """The channel of a socket of which nothing was received yet."""
    offer = (scope.get("extensions") or {}).get(EXTENSION)
    channel: AsgiChannel | DirectChannel = AsgiChannel(receive, send) if offer is None else offer["open"]()
    if PROTOCOL in (scope.get("subprotocols") or ()):
        channel.subprotocol = PROTOCOL
    return channel


def acceptance(subprotocol: str | None) -> Message:
    """ASGI's answer to a handshake; a browser that offers subprotocols takes no socket for which none is chosen."""
    return {"type": "websocket.accept"} | ({} if subprotocol is None else {"subprotocol": subprotocol})


class AsgiChannel:
    """A channel over ASGI's messages."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.subprotocol: str | None = None
        self._first: asyncio.Future[Message] | None = None

    async def serve(self, work: Coroutine[Any, Any, None]) -> None:
        """See Channel; here the work is done when this returns."""
        try:
            await work
        finally:
            if self._first is not None:
                self._first.cancel()

    async def is_gone(self) -> bool:
        """See Channel."""
        connect = await self._receive()
        assert connect["type"] == "websocket.connect"  # noqa: S101 - the first message of every socket
        self._first = asyncio.ensure_future(self._receive())
        await hear_disconnects()
        return self._first.done() and self._first.result()["type"] == "websocket.disconnect"

    async def accept(self) -> None:
        """See Channel."""
        await self._send(acceptance(self.subprotocol))

    def offer(self, begin: Begin | None) -> None:
        """See Channel; over ASGI nothing is begun."""

    def done(self, rest: Any = None) -> None:
        """See Channel."""

    def post(self, text: bytes) -> None:
        """See Channel."""

    async def receive(self) -> Frame | None:
        """See Channel."""
        message = await (self._first or self._receive())
        self._first = None
        return None if message["type"] == "websocket.disconnect" else frame_of(message)

    async def send(self, text: bytes) -> None:
        """See Channel."""
        await self._send({"type": "websocket.send", "text": text.decode()})

    async def close(self, code: int) -> None:
        """See Channel."""
        await self._send({"type": "websocket.close", "code": code})


class Wire(Protocol):
    """A server's end of one socket, as a direct channel uses it."""

    def serve(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work when the app has returned, as if it were the app's."""

    async def send(self, message: Any) -> None:
        """ASGI's `send`, for what is rare."""

    congested: bool
    """Whether the client reads too slowly."""

    async def send_text(self, text: bytes) -> None:
        """See Channel.send."""

    def post(self, text: bytes) -> None:
        """See Channel."""

    async def send_close(self, code: int) -> None:
        """See Channel.close."""

    def pause(self) -> None:
        """Read no more until `resume`."""

    def resume(self) -> None:
        """Read on."""


class DirectChannel:
    """A channel that a server fills where it would fill its queue of ASGI messages."""

    __slots__ = (
        "_begin",
        "_ended",
        "_idle",
        "_looks",
        "_loop",
        "_paused",
        "_receiver",
        "_waiting",
        "_wire",
        "post",
        "subprotocol",
    )

    def __init__(self, wire: Wire, loop: asyncio.AbstractEventLoop) -> None:
        self._wire = wire
        self.post = wire.post
        """See Channel."""
        self._loop = loop
        self.subprotocol: str | None = None
        self._waiting: deque[Frame] = deque()
        self._receiver: asyncio.Future[Any] | None = None
        """The work's wait for a frame, which goes on while one that was begun is under way."""
        self._idle = False
        """Whether the work waits, and nothing was begun."""
        self._begin: Begin | None = None
        self._looks = False
        self._paused = False
        self._ended = False

    @property
    def crowded(self) -> bool:
        """Whether as many frames wait as may."""
        return len(self._waiting) > WAITING

    def put_nowait(self, message: Mapping[str, Any]) -> None:
        """Take a message as the server's queue would; all but frames and the end are nothing here."""
        if message["type"] == "websocket.disconnect":
            self._ended = True
            if self._idle:
                self._look()
        elif message["type"] == "websocket.receive":
            self.take(frame_of(message))

    def take(self, frame: Frame) -> None:
        """Take a frame that has come."""
        if self._idle and not self._waiting:
            self._start(frame)
            return
        self._waiting.append(frame)
        if self.crowded:
            self._paused = True
            self._wire.pause()

    def offer(self, begin: Begin | None) -> None:
        """See Channel."""
        self._begin = begin

    def done(self, rest: Any = None) -> None:
        """See Channel."""
        self._idle = True
        if rest is not None:
            self._hand_over(rest)
        elif self._waiting or self._ended:
            self._look()

    def _look(self) -> None:
        """Start what waits; one that is over at once is followed by the next here, and not by a call in a call."""
        if self._looks:
            return
        self._looks = True
        while self._idle and self._waiting:
            frame = self._waiting.popleft()
            if self._paused and not self._waiting:
                self._paused = False
                self._wire.resume()
            self._start(frame)
        self._looks = False
        if self._idle and self._ended:
            self._hand_over(None)

    def _start(self, frame: Frame) -> None:
        """Begin it, or leave it to the work."""
        self._idle = False
        if self._begin is None or self._wire.congested or not self._begin(frame):
            self._hand_over(frame)

    def _hand_over(self, item: Any) -> None:
        self._idle = False
        if self._receiver is not None and not self._receiver.done():  # else the work was cancelled
            self._receiver.set_result(item)

    async def serve(self, work: Coroutine[Any, Any, None]) -> None:
        """See Channel; the work is done without all that stands between a server and its app."""
        self._wire.serve(work)

    async def is_gone(self) -> bool:
        """See Channel."""
        await hear_disconnects()
        return self._ended

    def accept(self) -> Coroutine[Any, Any, None]:
        """See Channel."""
        return self._wire.send(acceptance(self.subprotocol))

    async def receive(self) -> Any:
        """See Channel."""
        self._receiver = self._loop.create_future()
        self._idle = True
        if self._waiting or self._ended:
            self._look()
        return await self._receiver

    def send(self, text: bytes) -> Coroutine[Any, Any, None]:
        """See Channel."""
        return self._wire.send_text(text)

    def close(self, code: int) -> Coroutine[Any, Any, None]:
        """See Channel."""
        return self._wire.send_close(code)


def frame_of(message: Mapping[str, Any]) -> Frame:
    """The frame in a `websocket.receive`."""
    text: str | None = message.get("text")
    return message.get("bytes") or b"" if text is None else text
