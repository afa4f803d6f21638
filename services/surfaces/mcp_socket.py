"""OpenEnv's JSON-RPC as frames of a socket of its own: the WebSocket of `/mcp`.

An anonymous socket has a session that ends with it. On one that path, header or query name it only
calls: it takes the session from nobody, and closing it ends nothing.
"""

from __future__ import annotations

from metagame.errors import InvalidSessionId, MetaGameError, outward
from metagame.wire.jsonrpc import decode_call, encode_reply, error_reply, result_reply

from ..attachment import Attachment
from ..engine import Engine
from ..lifecycle import Lifecycle
from .channel import Channel, Frame, Message, Receive, Send
from .origins import Origins, turn_away
from .rpc import SURFACE, Caller, carry_out, operation_of
from .websocket import DRAINING, NORMAL, Socket, WebSocketSurface


class McpSocketSurface(WebSocketSurface):
    """The ASGI application of `/mcp`'s sockets."""

    def __init__(self, engine: Engine, lifecycle: Lifecycle, origins: Origins, *, max_frame_bytes: int) -> None:
        super().__init__(engine, lifecycle, max_frame_bytes=max_frame_bytes)
        self._origins = origins

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one socket, unless a page of another website opens it."""
        if self._origins.welcomes(scope):
            await super().__call__(scope, receive, send)
        else:
            await turn_away(receive, send)

    async def _serve(self, channel: Channel, session_id: str | None, wrong: InvalidSessionId | None) -> None:
        if await channel.is_gone():
            return
        socket = McpSocket(self._engine, channel, self._max_frame_bytes)
        if wrong is None and self._lifecycle.draining:
            self._engine.events.refused("draining", session_id)
            await socket.refuse(None, DRAINING)
            return
        if wrong is not None:
            with self._engine.meter.timed(SURFACE, "connect") as timed:
                timed.failed(wrong)
            await socket.refuse(wrong, NORMAL)
            return
        attachment = None
        try:
            with self._engine.meter.timed(SURFACE, "connect"):
                if session_id is None:
                    attachment = await self._engine.open(None, socket.lost)
        except MetaGameError as error:
            await socket.refuse(error, NORMAL)
            return
        self._lifecycle.enter(socket)
        try:
            await socket.talk(session_id, attachment)
        finally:
            if attachment is not None:
                await self._engine.leave(attachment)
            self._lifecycle.exit(socket)


class McpSocket(Socket):
    """One open socket; its errors are JSON-RPC's."""

    async def refuse(self, error: MetaGameError | None, code: int) -> None:
        """Close a socket that cannot be opened: accepted, told why, closed."""
        await self._channel.accept()
        if error is not None:
            await self._channel.send(encode_reply(error_reply(error)))
        await self._channel.close(code)

    async def talk(self, session_id: str | None, attachment: Attachment | None) -> None:
        """Answer calls until the socket ends."""
        self.anonymous = attachment is not None
        await self._channel.accept()
        while self._close_code is None:
            frame = await self._channel.receive()
            if frame is None or self._farewell is not None:
                return
            self._busy = True
            await self._channel.send(await self._reply(frame, session_id, attachment))
            self._busy = False
        await self._channel.close(self._close_code)

    def lost(self, error: MetaGameError) -> None:
        """Tell an idle socket that its session is gone; a busy one finds out by itself."""
        if not self._busy:
            self._leave(outward(error).close_code or NORMAL, encode_reply(error_reply(error)))

    async def _reply(self, frame: Frame, session_id: str | None, attachment: Attachment | None) -> bytes:
        named = session_id if attachment is None else attachment.session_id
        call = None
        with self._meter.timed(SURFACE, operation_of(None)) as timed:
            try:
                call = decode_call(self._text(frame))
                timed.operation = operation_of(call)
                reply = result_reply(call, await carry_out(self._engine, call, Caller(named, attachment=attachment)))
            except MetaGameError as error:
                timed.failed(error)
                self._close_for(error)
                reply = error_reply(error, call)
        return encode_reply(reply)
