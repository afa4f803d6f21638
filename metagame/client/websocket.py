"""The WebSocket transport: one socket per session, attached by `/sessions/<id>/ws`.

The socket is opened by the first request and again by the next one after it was lost. It is
dropped whenever the next frame might not be the next request's answer.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)

from metagame._version import __version__
from metagame.client.shapes import clause
from metagame.client.transport import ANSWER_TIMEOUT_S, Address, ConnectionLost, in_path, not_metagame, refused
from metagame.core import strictjson
from metagame.errors import MetaGameError, ProtocolError, SessionTakenOver, TooLarge, Unavailable
from metagame.wire.answers import Answer, decode_frame, error_of_body
from metagame.wire.requests import CloseRequest, Request, encode_frame

AWAY_STATUSES = frozenset({429, 502, 503, 504})
"""HTTP statuses of a server that may soon be back."""
_GOODBYE_TIMEOUT_S = 0.5

# Dead peers are found by TCP, not by pings: a server that is busy for minutes keeps its sockets.
_KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPALIVE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


class WebSocketTransport:
    """Requests as frames on a socket; times in seconds, sizes in MiB."""

    def __init__(  # noqa: PLR0913 - a client's knobs are keywords
        self,
        address: Address,
        *,
        headers: Mapping[str, str] | None = None,
        connect_timeout_s: float = 10.0,
        message_timeout_s: float = ANSWER_TIMEOUT_S,
        max_message_size_mb: float = 100.0,
        ping_interval_s: float | None = None,
        ping_timeout_s: float | None = None,
    ) -> None:
        self._address = address
        self._message_timeout_s = message_timeout_s
        self._options: dict[str, Any] = {
            "additional_headers": {**address.headers, **(headers or {})},
            "user_agent_header": f"metagame/{__version__}",
            "open_timeout": connect_timeout_s,
            "max_size": int(max_message_size_mb * 2**20),
            "compression": None,
            "ping_interval": ping_interval_s,
            "ping_timeout": ping_timeout_s,
            "close_timeout": connect_timeout_s,
        }
        if address.loopback:
            self._options["proxy"] = None
        self._socket: ClientConnection | None = None
        self._attached: tuple[str, asyncio.AbstractEventLoop] | None = None

    async def exchange(self, session_id: str, request: Request) -> Answer | None:
        """Send a frame and read its answer, on a new socket where there is none."""
        frame = encode_frame(request)
        here = (session_id, asyncio.get_running_loop())
        if self._socket is None or self._attached != here:
            # A socket of an event loop that is gone cannot be closed from here, only left.
            self._socket, self._attached = await self._open(session_id), here
        clean = False
        try:
            async with asyncio.timeout(self._message_timeout_s):
                if isinstance(request, CloseRequest):
                    await self._say_goodbye(self._socket, frame)
                    return None
                answer = await self._ask(self._socket, frame, request.request_id)
                clean = True
                return answer
        except _Answered as answered:
            clean = not isinstance(answered.error, SessionTakenOver)
            raise answered.error from None
        except TimeoutError:
            reason = f"no answer in {self._message_timeout_s:g} s"
            raise ConnectionLost(reason, sent=True) from None
        finally:
            if not clean:
                self._drop()

    async def close(self) -> None:
        """Close the socket; the session stays."""
        socket_, self._socket = self._socket, None
        if socket_ is not None and self._attached is not None and self._attached[1] is asyncio.get_running_loop():
            try:
                async with asyncio.timeout(_GOODBYE_TIMEOUT_S):
                    await socket_.close()
            except TimeoutError:
                socket_.transport.abort()
                await socket_.wait_closed()

    async def _open(self, session_id: str) -> ClientConnection:
        url = f"{self._address.websocket}/sessions/{in_path(session_id)}/ws"
        try:
            opened = await connect(url, **self._options)
        except InvalidStatus as wrong:
            response = wrong.response
            raise _handshake_error(
                url, response.status_code, response.headers.get("Retry-After"), bytes(response.body)
            ) from None
        except (InvalidMessage, InvalidURI, ProxyError, InvalidHandshake) as wrong:
            if isinstance(wrong.__cause__, EOFError | OSError):
                reason = "the connection was closed during the handshake"
                raise ConnectionLost(reason, sent=False) from wrong
            raise not_metagame(url, f"the WebSocket handshake failed ({wrong})") from wrong
        except ssl.SSLError as wrong:
            message = (
                f"No secure connection to {url}: {clause(wrong.reason or wrong)}. Check the certificate and base_url."
            )
            raise Unavailable(message, retryable=False) from wrong
        except (OSError, TimeoutError, ConnectionClosed) as wrong:
            raise ConnectionLost(_reason(wrong), sent=False) from wrong
        _keep_alive(opened)
        return opened

    async def _ask(self, socket_: ClientConnection, frame: str, request_id: str | None) -> Answer:
        sent = False
        try:
            await socket_.send(frame)
            sent = True
            text = await socket_.recv()
        except ConnectionClosed as closed:
            raise await self._why_closed(socket_, closed, sent=sent) from closed
        return _answer(text, request_id)

    async def _why_closed(self, socket_: ClientConnection, closed: ConnectionClosed, *, sent: bool) -> Exception:
        """What the server said last, before it closed: an error frame nobody asked for, or a close code."""
        if not sent:
            try:
                _answer(await socket_.recv(), None)
            except ConnectionClosed:
                pass
            except _Answered as answered:
                return answered.error
            except MetaGameError as error:
                return error
        code = None if closed.rcvd is None else closed.rcvd.code
        if code == 4001:
            return SessionTakenOver("A newer socket has attached to this session.")
        if code == 1009:
            message = "The server takes no message as large as this one, and nothing was done. Send a smaller action."
            return TooLarge(message)
        if closed.sent is not None and closed.sent.code == 1009:
            message = "The server's answer is larger than max_message_size_mb, so it was not read. Allow a larger one."
            return ProtocolError(message)
        reason = "the connection dropped" if code is None else f"the server closed the connection with {code}"
        return ConnectionLost(reason, sent=sent)

    async def _say_goodbye(self, socket_: ClientConnection, frame: str) -> None:
        """Send the close frame and wait until the server has closed: then the session has ended."""
        try:
            await socket_.send(frame)
            while True:
                await socket_.recv()
        except ConnectionClosed:
            await socket_.wait_closed()

    def _drop(self) -> None:
        """Abandon the socket at once: a late answer on it is never read."""
        socket_, self._socket = self._socket, None
        if socket_ is not None:
            socket_.transport.abort()


class _Answered(Exception):
    """The server's own answer was this error; the socket is in order."""

    def __init__(self, error: MetaGameError) -> None:
        self.error = error


def _answer(text: str | bytes, request_id: str | None) -> Answer:
    """The answer in a frame that names the request; an error that names none may be an unasked one."""
    try:
        answer, named = decode_frame(text)
    except ProtocolError:
        raise
    except MetaGameError as error:
        named = strictjson.loads(text).get("request_id")
        if named is None:
            raise
        if named == request_id:
            raise _Answered(error) from None
        raise _shifted() from None
    if named != request_id:
        raise _shifted()
    return answer


def _shifted() -> ProtocolError:
    message = (
        "The server's frame answers another request than the one asked, so the connection was dropped and the frame"
        " not used. Call state() to see where the session stands. Does a proxy mix up connections?"
    )
    return ProtocolError(message)


def _handshake_error(url: str, status: int, retry_after: str | None, body: bytes) -> Exception:
    try:
        error = error_of_body(body)
    except ProtocolError as unreadable:
        error = unreadable
    if not isinstance(error, ProtocolError):
        error.fields.update(retry_after_fields(retry_after))
        return error
    if status in AWAY_STATUSES:
        return ConnectionLost(f"HTTP status {status}", sent=False, **retry_after_fields(retry_after))
    if status in {401, 403}:
        return refused(url, status)
    return not_metagame(url, f"HTTP status {status} instead of a WebSocket")


def retry_after_fields(value: str | None) -> dict[str, float]:
    """The seconds in a Retry-After header; its date form is left out."""
    try:
        return {"retry_after_s": max(0.0, float(value or ""))}
    except ValueError:
        return {}


def _keep_alive(opened: ClientConnection) -> None:
    socket_ = opened.transport.get_extra_info("socket")
    if socket_ is None:
        return
    socket_.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        option = getattr(socket, name, None)  # Linux and macOS name the first one differently
        if option is not None:
            socket_.setsockopt(socket.IPPROTO_TCP, option, value)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "connecting took too long"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return str(error) or type(error).__name__
