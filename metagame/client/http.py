"""The HTTP transport: one request each, without a socket to keep; sessions are never attached.

For places where WebSockets do not pass, and for sessions that several clients step. Nothing
fences an older request off: one that was cancelled may still be carried out later, after a
`state()` even; the next step then raises SessionMoved, because it expects another position.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from functools import cache

import httpx

from metagame._version import __version__
from metagame.client.shapes import clause
from metagame.client.transport import ANSWER_TIMEOUT_S, Address, ConnectionLost, in_path, not_metagame, refused
from metagame.client.websocket import AWAY_STATUSES, retry_after_fields
from metagame.errors import ProtocolError, Unavailable
from metagame.wire.answers import Answer, decode_body, decode_observation, decode_state, error_of_body
from metagame.wire.requests import CloseRequest, Request, ResetRequest, StateRequest, StepRequest, encode_body

NOT_FOUND = 404
TRACEPARENT = "traceparent"
TOO_MANY_REQUESTS = 429
_IN_PRODUCTION = ', or it is one in production mode, which has sockets only: transport="websocket"'
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class HttpTransport:
    """Requests as POST and GET under `/sessions/<id>`.

    `ends_session`: whether a CloseRequest deletes the session. `http_transport` is httpx's own,
    for tests and unusual networks.
    """

    def __init__(  # noqa: PLR0913 - a client's knobs are keywords
        self,
        address: Address,
        *,
        headers: Mapping[str, str] | None = None,
        connect_timeout_s: float = 10.0,
        message_timeout_s: float = ANSWER_TIMEOUT_S,
        ends_session: bool = True,
        http_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._address = address
        self._headers = {"User-Agent": f"metagame/{__version__}", **address.headers, **(headers or {})}
        self._timeout = httpx.Timeout(message_timeout_s, connect=connect_timeout_s)
        self._ends_session = ends_session
        self._http_transport = http_transport
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def exchange(self, session_id: str, request: Request) -> Answer | None:
        """Send one HTTP request and decode its answer."""
        if isinstance(request, CloseRequest):
            if self._ends_session:
                await self._send("DELETE", session_id, "")
            return None
        if isinstance(request, StateRequest):
            asked = {} if request.traceparent is None else {TRACEPARENT: request.traceparent}
            return decode_state(decode_body(await self._send("GET", session_id, "/state", headers=asked)))
        path = f"/{request.kind.value}"
        answer = await self._send("POST", session_id, path, encode_body(request), _headers(request))
        body = decode_body(answer)
        if body.get("request_id", request.request_id) != request.request_id:
            message = "The server's answer is another request's. Does a proxy mix up answers? Call state() to go on."
            raise ProtocolError(message)
        return decode_observation(body)

    async def close(self) -> None:
        """Close connections; the session stays."""
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    async def _send(
        self,
        method: str,
        session_id: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        url = f"{self._address.http}/sessions/{in_path(session_id)}{path}"
        try:
            response = await self._connections().request(method, url, content=content, headers=headers)
        except _UNSENT as wrong:
            if isinstance(_root(wrong), ssl.SSLError):
                message = f"No secure connection to {url}: {clause(wrong)}. Check the certificate and base_url."
                raise Unavailable(message, retryable=False) from wrong
            raise ConnectionLost(reason_of(wrong), sent=False) from wrong
        except httpx.TransportError as wrong:
            raise ConnectionLost(reason_of(wrong), sent=True) from wrong
        except httpx.RequestError as wrong:
            raise not_metagame(url, f"its answer cannot be read ({wrong})") from wrong
        if not response.is_success:
            raise _error(url, response)
        return response.content

    def _connections(self) -> httpx.AsyncClient:
        """The connections of the running event loop."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._loop = loop
            self._client = httpx.AsyncClient(
                headers=self._headers,
                timeout=self._timeout,
                trust_env=not self._address.loopback,
                verify=certificates() if self._address.http.startswith("https") else False,
                transport=self._http_transport,
            )
        return self._client


def _headers(request: ResetRequest | StepRequest) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if request.request_id is not None:
        # For balancers, which look into no body: what carries it is safe to send again.
        headers["Idempotency-Key"] = request.request_id
    if request.traceparent is not None:
        headers[TRACEPARENT] = request.traceparent
    return headers


@cache
def certificates() -> ssl.SSLContext:
    """What https trusts; loading it takes longer than a hundred steps, so it is done once, and not for http."""
    return httpx.create_ssl_context()


def _error(url: str, response: httpx.Response) -> Exception:
    after = retry_after_fields(response.headers.get("Retry-After"))
    try:
        error = error_of_body(response.content)
    except ProtocolError as unreadable:
        error = unreadable
    if not isinstance(error, ProtocolError):
        error.fields.update(after)
        return error
    status = response.status_code
    if status in AWAY_STATUSES:
        # Not ours, so a proxy's, which may have passed the request on before: its 503 too. Only 429 refuses.
        return ConnectionLost(f"HTTP status {status}", sent=status != TOO_MANY_REQUESTS, **after)
    if status in {401, 403}:
        return refused(url, status)
    hint = _IN_PRODUCTION if status == NOT_FOUND else ""
    return not_metagame(url, f"HTTP status {status}{hint}")


def reason_of(error: httpx.TransportError) -> str:
    """Why no answer came, for people."""
    root = _root(error)
    return "connection refused" if isinstance(root, ConnectionRefusedError) else str(error) or type(error).__name__


def _root(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
