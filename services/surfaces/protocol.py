"""The WebSocket protocol of our own server: uvicorn's, with a short way for what nearly every frame is.

uvicorn speaks ASGI and leaves frames to the websockets library. Both are thorough, and together cost more
than a step. Here a read that is one whole text frame, with nothing else under way, goes straight to the
socket's channel (channel.py), and its answer straight to the outbox (outbox.py). Everything else takes
the long way: there is one parser, and beside it one kind of frame that is known by sight. Whatever is
written the long way lets the outbox go first.

And refusals arrive. A frame over the limit is refused at its header, while the client still sends the
rest. Closing then, as uvicorn does, makes the kernel answer that rest with a reset, which may overtake the
close frame: the client sees a lost connection, not 1009, and sends the same frame again elsewhere.
"""

from __future__ import annotations

import struct
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State
from websockets.streams import StreamReader

from .channel import EXTENSION, DirectChannel
from .outbox import outbox_of

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the library's C extension
    from websockets.utils import apply_mask

FINAL_TEXT = 0x81
"""A frame's first byte: final, no extension's bits, text."""
MASKED = 0x80
TWO_BYTES, EIGHT_BYTES = 126, 127
"""What stands for the length where it follows; a lower number is the length itself."""
MASK_BYTES = 4
_LENGTH = struct.Struct("!BBH")
_LONG_LENGTH = struct.Struct("!BBQ")
_AWAITS_A_FRAME = StreamReader.at_eof.__code__
"""Where the library's parser waits for the first byte of a frame, and on an open connection for nothing else."""


def whole_text(data: bytes, limit_bytes: int) -> str | None:
    """The text, where the data is exactly one frame: final, masked, within the limit, and in UTF-8; else None."""
    if len(data) < 2 + MASK_BYTES or data[0] != FINAL_TEXT:
        return None
    length, begins = data[1] - MASKED, 2 + MASK_BYTES
    if length == TWO_BYTES:
        length, begins = data[2] << 8 | data[3], 4 + MASK_BYTES
    elif length == EIGHT_BYTES:
        return None
    if len(data) != begins + length or length > limit_bytes:
        return None
    try:
        return apply_mask(data[begins:], data[begins - MASK_BYTES : begins]).decode()
    except UnicodeDecodeError:
        return None


def text_frame(text: bytes) -> bytes:
    """The frame that a server sends, unmasked."""
    length = len(text)
    if length < TWO_BYTES:
        return bytes((FINAL_TEXT, length)) + text
    if length < 1 << 16:
        return _LENGTH.pack(FINAL_TEXT, TWO_BYTES, length) + text
    return _LONG_LENGTH.pack(FINAL_TEXT, EIGHT_BYTES, length) + text


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol with a channel to offer; behind a refusal it reads on until the client has closed."""

    # What each frame asks for lies together: uvicorn's forty attributes are a dictionary, and with many sockets a
    # step waits for memory more than for anything else.
    __slots__ = (
        "_channel",
        "_limit_bytes",
        "_outbox",
        "_short_way",
        "close_sent",
        "congested",
        "disconnected",
        "transport",
    )

    def __init__(self, config: Config, server_state: ServerState, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, server_state, *args, **kwargs)
        self._outbox = outbox_of(server_state)
        self._limit_bytes = self.config.ws_max_size
        self._asgi_app, self.app = self.app, self._app_and_work
        self._work: Coroutine[Any, Any, None] | None = None
        self._channel: DirectChannel | None = None
        self._short_way: DirectChannel | None = None
        """The channel while the library's parser is between two messages."""
        self._refused = False
        self.congested = False

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake, with the channel among the scope's extensions."""
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.scope["extensions"][EXTENSION] = {"open": self._open_channel}

    def data_received(self, data: bytes) -> None:
        """Take what came: by the short way, by the long one, or not at all behind a refusal."""
        if self._short_way is not None and not self.close_sent:
            text = whole_text(data, self._limit_bytes)
            if text is not None:
                self._short_way.take(text)
                return
        if not self._refused:
            super().data_received(data)
            self._choose_way()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of what holds this in turn, so that a socket's memory is free at once, not when garbage is sought."""
        super().connection_lost(exc)
        self.conn.parser.close()
        if self._channel is not None:
            self._channel = self._short_way = None
            del self.queue

    def handle_ping(self) -> None:
        """Answer a ping, unless what came before it in the same read was refused."""
        if not self._refused:
            self._outbox.flush()
            super().handle_ping()

    def handle_close(self, event: Frame) -> None:
        """Answer a close frame, or end behind the client's answer to ours."""
        self._outbox.flush()
        super().handle_close(event)

    def send_receive_event_to_app(self) -> None:
        """Hand on a message that came the long way; uvicorn pauses reading behind each, a channel when it must."""
        super().send_receive_event_to_app()
        if self._channel is not None and not self._channel.crowded:
            self.resume()

    def shutdown(self) -> None:
        """Close, or say that the server does."""
        self._outbox.flush()
        super().shutdown()

    def serve(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work when the app has returned, as if it were the app's."""
        self._work = work

    async def send(self, message: Any) -> None:
        """Do as ASGI's `send`, behind what was posted."""
        if not self.writable.is_set():
            await self.writable.wait()
        self._outbox.flush()
        await super().send(message)

    async def send_text(self, text: bytes) -> None:
        """Send a text frame; raises ClientDisconnected, an OSError, once the socket is closing or gone."""
        if not self.writable.is_set():
            await self.writable.wait()
        if self.disconnected or self.close_sent or self.conn.state is not State.OPEN:
            raise ClientDisconnected
        self._outbox.flush()
        self.transport.write(text_frame(text))

    def post(self, text: bytes) -> None:
        """Send a text frame with the others of this moment; nothing once the socket is closing or gone."""
        if not self.close_sent:
            self._outbox.put(self.transport, text_frame(text))

    async def send_close(self, code: int) -> None:
        """Begin the closing handshake, unless a refusal has."""
        if not self.close_sent:
            await self.send({"type": "websocket.close", "code": code})

    def pause_writing(self) -> None:
        """Take note that the client reads too slowly."""
        super().pause_writing()
        self.congested = True

    def resume_writing(self) -> None:
        """Take note that the client has read."""
        super().resume_writing()
        self.congested = False

    def pause(self) -> None:
        """Read no more until `resume`."""
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def handle_parser_exception(self) -> None:
        """Send the close frame and the end of our side; close when the client does, or in a while."""
        assert self.conn.close_sent is not None  # noqa: S101 - it was sent where the data was found wrong
        self._refused = True
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._outbox.flush()
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        # With this timer set, the end of the application does not close the connection either.
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)
        self.resume()

    async def _app_and_work(self, scope: Any, receive: Any, send: Any) -> None:
        """The app, and what it left to be done: a socket lives long, and needs none of the middleware any more."""
        self.app = self._asgi_app
        await self._asgi_app(scope, receive, send)
        if self.initial_response is not None:
            self.handshake_complete = True  # by a refusal; uvicorn would log that there was no answer
        if self._work is not None:
            del scope, receive, send
            await self._work

    def _open_channel(self) -> DirectChannel:
        """Have frames go to a channel from now on, no longer to ASGI's `receive`."""
        arrived, self._channel = self.queue, DirectChannel(self, self.loop)
        while not arrived.empty():
            self._channel.put_nowait(arrived.get_nowait())
        self.queue = self._channel  # type: ignore[assignment]  # uvicorn only puts into it, but in `receive`
        del self.scope["extensions"][EXTENSION]
        self._choose_way()
        return self._channel

    def _choose_way(self) -> None:
        """Leave the short way open only if the library has used up all it was given and no message is half received."""
        waits: Any = self.conn.parser
        while waits.gi_yieldfrom is not None:
            waits = waits.gi_yieldfrom
        between = waits.gi_code is _AWAITS_A_FRAME and self.conn.current_size is None
        self._short_way = self._channel if between else None
