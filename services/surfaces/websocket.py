"""OpenEnv's socket: one answer per frame, in order, and no frame that was not asked for.

Three frames come unasked, each before a close: the pool is full, the socket cannot be opened,
the session was taken over. A frame that is wrong costs an error frame and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic_ns

from starlette.requests import HTTPConnection

from metagame.core.codec import NewerRecord
from metagame.errors import InvalidJson, InvalidSessionId, MetaGameError, TooLarge, outward
from metagame.wire.answers import error_frame, mcp_frame, observation_frame, packed_frame, state_frame
from metagame.wire.jsonrpc import call_of, error_reply, result_reply
from metagame.wire.requests import (
    CloseRequest,
    McpRequest,
    Request,
    ResetRequest,
    StateRequest,
    StepRequest,
    decode_frame,
    frame_request_id,
    parse_frame,
    plain_step,
)

from ..attachment import Attachment
from ..engine import Engine
from ..lifecycle import Lifecycle
from ..meter import Timed
from ..meter.layout import STEP_ON_SOCKET
from ..submission import Submission
from .channel import Channel, Frame, Message, Receive, Send, channel_of
from .naming import named_session
from .rpc import Caller, carry_out

NORMAL = 1000
DRAINING = 1012
SURFACE = "websocket"
OPERATIONS: dict[type[Request | McpRequest], str] = {
    StepRequest: "step",
    ResetRequest: "reset",
    StateRequest: "state",
    McpRequest: "mcp",
    CloseRequest: "close",
}
"""How frames are counted, once they are read."""


class WebSocketSurface:
    """The ASGI application of every WebSocket path."""

    def __init__(self, engine: Engine, lifecycle: Lifecycle, *, max_frame_bytes: int) -> None:
        self._engine = engine
        self._lifecycle = lifecycle
        self._max_frame_bytes = max_frame_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one socket from its handshake to its end."""
        channel = channel_of(scope, receive, send)
        try:
            session_id, wrong = named_session(HTTPConnection(scope)), None
        except InvalidSessionId as error:
            session_id, wrong = None, error
        await channel.serve(self._serve(channel, session_id, wrong))

    async def _serve(self, channel: Channel, session_id: str | None, wrong: InvalidSessionId | None) -> None:
        if await channel.is_gone():
            return  # a worker that slept takes no session for a client that has left
        socket = Socket(self._engine, channel, self._max_frame_bytes)
        if self._lifecycle.draining:
            self._engine.events.refused("draining", session_id)
            await socket.refuse(None, DRAINING)
            return
        if wrong is not None:
            with self._engine.meter.timed(SURFACE, "connect") as timed:
                timed.failed(wrong)
            await socket.refuse(wrong, NORMAL)
            return
        try:
            with self._engine.meter.timed(SURFACE, "connect"):
                # Attached before the handshake is answered: who sees the socket open has the session.
                attachment = await self._engine.open(session_id, socket.lost)
        except MetaGameError as error:
            await socket.refuse(error, NORMAL)
            return
        self._lifecycle.enter(socket)
        try:
            await socket.serve(attachment)
        finally:
            await self._engine.leave(attachment)
            self._lifecycle.exit(socket)


class Socket:
    """One open socket."""

    __slots__ = (
        "_attachment",
        "_began_ns",
        "_busy",
        "_channel",
        "_close_code",
        "_engine",
        "_farewell",
        "_max_frame_bytes",
        "_meter",
        "anonymous",
    )

    def __init__(self, engine: Engine, channel: Channel, max_frame_bytes: int) -> None:
        self.anonymous = False
        self._engine = engine
        self._meter = engine.meter
        self._channel = channel
        self._max_frame_bytes = max_frame_bytes
        self._began_ns = 0
        """When the frame that is being answered was taken up."""
        self._busy = False
        self._close_code: int | None = None
        self._farewell: asyncio.Task[None] | None = None

    async def refuse(self, error: MetaGameError | None, code: int) -> None:
        """Close a socket that cannot be opened, as OpenEnv does: accepted, told why, closed."""
        await self._channel.accept()
        if error is not None:
            await self._channel.send(error_frame(error))
        await self._channel.close(code)

    async def serve(self, attachment: Attachment) -> None:
        """Answer frames until the socket ends."""
        self.anonymous = attachment.anonymous
        self._attachment = attachment
        channel = self._channel
        await channel.accept()
        channel.offer(self._begin)
        try:
            while self._close_code is None:
                frame = await channel.receive()
                if frame is None or self._farewell is not None:
                    return  # a frame that crosses the farewell is not carried out
                if not isinstance(frame, Submission):
                    self._began_ns = monotonic_ns()
                self._busy = True
                answer = await self._answer(frame, attachment)
                if answer is None:
                    # Left before the socket closes: who sees it closed finds the session ended and its place free.
                    await self._engine.leave(attachment, closed=True)
                    self._close_code = NORMAL
                    break
                await channel.send(answer)
                self._busy = False
        finally:
            channel.offer(None)
            del self._attachment  # which holds this: else both were garbage that only the collector finds
        await channel.close(self._close_code)

    def _begin(self, frame: Frame) -> bool:
        """Take a step that needs no more than its commit, as nearly all do; False leaves the frame to `serve`."""
        if self._farewell is not None or self._close_code is not None:
            return False
        if isinstance(frame, bytes) or 4 * len(frame) > self._max_frame_bytes:  # `_text` has to look
            return False
        self._began_ns = monotonic_ns()
        self._busy = True
        try:
            fields = parse_frame(frame)
            request = plain_step(fields) or decode_frame(fields)
            begun = type(request) is StepRequest and self._engine.step_soon(request, self._attachment, self._stepped)
        except Exception:  # noqa: BLE001 - nothing was sent: `serve` meets it again, and says so
            begun = False
        if not begun:
            self._busy = False
        return begun

    def _stepped(self, submission: Submission) -> None:
        """Answer a step that was begun and is committed; leave any other, and a close that is due, to `serve`."""
        try:
            answer = submission.settle() if self._close_code is None else None
            if answer is None:
                self._channel.done(submission)
                return
            self._channel.post(packed_frame(answer, submission.request_id))
        except Exception as bug:  # noqa: BLE001 - `serve` raises it; here it would end the line to Redis
            self._channel.done(bug)
        else:
            self._meter.took(STEP_ON_SOCKET, self._began_ns)
            self._busy = False
            self._channel.done()

    def lost(self, error: MetaGameError) -> None:
        """Tell an idle socket that its session is no longer its own; a busy one finds out by itself."""
        if not self._busy:
            self._leave(outward(error).close_code or NORMAL, error_frame(error))

    def drain(self) -> None:
        """Close for a restart: at once if idle, else behind the answer that is on its way."""
        if self._busy:
            self._close_code = DRAINING
        else:
            self._leave(DRAINING)

    def _leave(self, code: int, frame: bytes | None = None) -> None:
        if self._farewell is None:
            self._farewell = asyncio.create_task(self._say_farewell(code, frame))

    async def _say_farewell(self, code: int, frame: bytes | None) -> None:
        with contextlib.suppress(OSError):  # the client may be gone first
            if frame is not None:
                await self._channel.send(frame)
            await self._channel.close(code)

    async def _answer(self, frame: Frame | Submission | Exception, attachment: Attachment) -> bytes | None:
        """The answer to one frame, or to a step that was begun; None to a `close` frame."""
        with self._meter.timed(SURFACE, "unreadable", self._began_ns) as timed:
            if isinstance(frame, Exception):
                timed.operation = "step"
                raise frame
            request_id = None
            try:
                if isinstance(frame, Submission):
                    timed.operation = "step"
                    request_id = frame.request_id
                    return observation_frame(await frame.run(), request_id)
                fields = parse_frame(self._text(frame))
                request_id = frame_request_id(fields)
                request = decode_frame(fields)
                timed.operation = OPERATIONS[type(request)]
                return None if isinstance(request, CloseRequest) else await self._ask(request, attachment, timed)
            except MetaGameError as error:
                timed.failed(error)
                self._close_for(error)
                return error_frame(error, request_id)

    def _close_for(self, error: MetaGameError) -> None:
        """Close behind the answer, where the error is of that kind."""
        elsewhere = DRAINING if isinstance(error, NewerRecord) else None
        self._close_code = outward(error).close_code or elsewhere or self._close_code

    async def _ask(self, request: Request | McpRequest, attachment: Attachment, timed: Timed) -> bytes:
        if isinstance(request, StepRequest):
            stepped = await self._engine.step(attachment.session_id, request, attachment)
            return observation_frame(stepped, request.request_id)
        if isinstance(request, ResetRequest):
            ready = await self._engine.reset(attachment.session_id, request, attachment)
            return observation_frame(ready, request.request_id)
        if isinstance(request, McpRequest):
            return await self._call(request, attachment, timed)
        assert not isinstance(request, CloseRequest)  # noqa: S101 - answered by the caller
        state = await self._engine.state(attachment.session_id, attachment, traceparent=request.traceparent)
        return state_frame(state, request.request_id)

    async def _call(self, request: McpRequest, attachment: Attachment, timed: Timed) -> bytes:
        """The answer to a JSON-RPC call; on an anonymous socket it begins no episode, so that a lost one is loud."""
        caller = Caller(attachment.session_id, request.request_id, attachment, begins=not attachment.anonymous)
        call = None
        try:
            call = call_of(request.call)
            reply = result_reply(call, await carry_out(self._engine, call, caller))
        except MetaGameError as error:
            timed.failed(error)
            self._close_for(error)
            reply = error_reply(error, call)
        return mcp_frame(reply, request.request_id)

    def _text(self, frame: Frame) -> str:
        if isinstance(frame, bytes):
            why = "Invalid JSON: a frame is a text frame, and this one is binary"
            raise InvalidJson(why)
        if 4 * len(frame) > self._max_frame_bytes < len(frame.encode()):
            why = f"A frame may have up to {self._max_frame_bytes} bytes."
            raise TooLarge(why, limit_bytes=self._max_frame_bytes)
        return frame
