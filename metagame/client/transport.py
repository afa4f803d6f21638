"""What carries a request to a server and its answer back, and what it says when that failed.

A transport knows addresses and connections. It sends each request once: resending, deadlines
and what a session expects are the session's (session.py).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol
from urllib.parse import unquote, urlsplit

from metagame.client.shapes import clause
from metagame.core.session import check_session_id
from metagame.errors import InvalidRequest, ProtocolError, Unauthorized
from metagame.wire.answers import Answer
from metagame.wire.requests import Request

ANSWER_TIMEOUT_S = 20.0
"""A server answers within METAGAME_REDIS_TIMEOUT_S (5), and a balancer says within 15 s that it did not: whoever is
silent for longer is frozen or gone, and the request is sent again, elsewhere."""
_SESSION_PATH = re.compile(r"(?P<prefix>.*)/sessions/(?P<session_id>[^/]+)", re.DOTALL)
_HOST = re.compile(r"([\w-]{1,63}\.)*[\w-]{1,63}\.?|[0-9a-f]*:[0-9a-f:.]+(%[\w.-]+)?", re.IGNORECASE)
_LOOPBACK = re.compile(r"localhost|127(\.\d+){3}|::1|.*\.localhost", re.IGNORECASE)
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class ConnectionLost(Exception):
    """The connection failed or dropped. `sent`: the request may have reached the server all the same."""

    def __init__(self, reason: str, *, sent: bool, retry_after_s: float = 0.0) -> None:
        self.reason = clause(reason)
        super().__init__(self.reason)
        self.sent = sent
        self.retry_after_s = retry_after_s


class Transport(Protocol):
    """A way to a server, with one verb."""

    async def exchange(self, session_id: str, request: Request) -> Answer | None:
        """Send one request of a session and return its answer; None after a CloseRequest.

        Raises the server's error, or ConnectionLost, after which the same request may be sent
        again. A cancelled exchange leaves nothing behind that a later one could take for its
        own answer. Called for one request of a session at a time.
        """

    async def close(self) -> None:
        """Give up connections; sessions stay."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address: `http` is its URL without a slash at the end and without credentials.

    `headers` carry the credentials, so that no error message shows them.
    """

    http: str
    loopback: bool
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def websocket(self) -> str:
        """The address with the WebSocket scheme."""
        return "ws" + self.http.removeprefix("http")


def parse_base_url(base_url: str) -> tuple[Address, str | None]:
    """The address, and the session id where the URL ends in `/sessions/<id>`; raises InvalidRequest."""
    try:
        parts = urlsplit(base_url.strip() if isinstance(base_url, str) else "")
        host, _ = parts.hostname, parts.port
        if host is not None and not host.isascii():
            host = host.encode("idna").decode()  # as it will be asked for
    except ValueError:
        raise _not_an_address(base_url) from None
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not host or _HOST.fullmatch(host) is None or parts.query or parts.fragment:
        raise _not_an_address(base_url)
    path, session_id = parts.path.rstrip("/"), None
    if (named := _SESSION_PATH.fullmatch(path)) is not None:
        path, session_id = named["prefix"], check_session_id(named["session_id"])
    loopback = _LOOPBACK.fullmatch(host) is not None
    credentials, _, place = parts.netloc.rpartition("@")
    headers = {"Authorization": f"Basic {b64encode(unquote(credentials).encode()).decode()}"} if credentials else {}
    return Address(f"{scheme}://{place}{path}", loopback, headers), session_id


def in_path(session_id: str) -> str:
    """The id as a path segment; `.` and `..` are ids too, and would lead elsewhere if left as they are."""
    return session_id.replace(".", "%2E") if session_id in {".", ".."} else session_id


def not_metagame(url: str, what: str) -> ProtocolError:
    """The error for an answer that no Metagame server gives."""
    message = (
        f"What answers at {url} is not a Metagame server: {clause(what)}."
        " Check base_url; it is the server's address without a path, unless a proxy adds one."
    )
    return ProtocolError(message)


def refused(url: str, status: int) -> InvalidRequest:
    """The error for an address that wants other credentials, or knows no such path (403 of other servers)."""
    message = (
        f"{url} refused the client with HTTP status {status}."
        " Pass what it asks for: api_key=, or METAGAME_API_KEY, where it is a Metagame server's own key,"
        ' else for example headers={"Authorization": "Bearer ..."}.'
        " If it asks for nothing, base_url is wrong: it names another server, or a path that is none of Metagame's."
    )
    return (Unauthorized if status == HTTPStatus.UNAUTHORIZED else InvalidRequest)(message, status=status)


def _not_an_address(base_url: str) -> InvalidRequest:
    message = (
        f"base_url is {base_url!r}, which is no server's address."
        " It looks like http://localhost:8000 (or https, ws, wss), with a path if a proxy needs one."
    )
    return InvalidRequest(message)
