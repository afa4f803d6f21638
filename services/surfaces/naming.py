"""How a request names its session, and how the answer tells the name.

Over HTTP: the path, else the header, else the query, else the cookie. A socket never reads the
cookie: a browser sends it along unasked, and two tabs would take one session from each other.

A request that names none gets a session of its own, and so that sending it again finds that one,
not another, the id is derived from the request's: a balancer does that by itself when a worker
dies before it has answered. Only from a random UUID, whose 122 bits nobody else draws: two clients
that both count their requests from "1" must not meet in one session. Who knows such a request id
knows the session: it is as much a key to it as the session id, and neither shown nor logged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b

from fastapi import Request
from starlette.requests import HTTPConnection

from metagame.core.session import check_session_id
from metagame.errors import InvalidSessionId

HEADER = "x-session-id"
QUERY = "session_id"
COOKIE = "metagame_session"
_RANDOM_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)
_SESSION_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Named:
    """A session's name in a request; `by_cookie`: the answer renews the cookie."""

    session_id: str
    by_cookie: bool = False


def named_session(connection: HTTPConnection) -> str | None:
    """The session id by path, header or query; empty ones do not count. Raises InvalidSessionId."""
    session_id = connection.path_params.get(QUERY) or _by_header(connection) or connection.query_params.get(QUERY)
    return check_session_id(session_id) if session_id else None


def _by_header(connection: HTTPConnection) -> str | None:
    """The session id in the header, which whoever stands between client and server may have added to the client's."""
    named = {one for one in connection.headers.getlist(HEADER) if one}
    if len(named) > 1:
        message = "This request names several sessions in X-Session-ID. Send the header once."
        raise InvalidSessionId(message)
    return named.pop() if named else None


def session_of(request: Request) -> str | None:
    """The session id that an HTTP request names, by cookie in the last place. Raises InvalidSessionId."""
    session_id = named_session(request)
    if session_id is not None:
        return tell(request, session_id)
    cookie = request.cookies.get(COOKIE)
    return tell(request, check_session_id(cookie), by_cookie=True) if cookie else None


def derived_session(verb: str, *request_ids: str | None) -> str | None:
    """The id of the session that this request makes, where one of its ids is a random UUID; the first counts."""
    for request_id in request_ids:
        if request_id is not None and _RANDOM_UUID.fullmatch(request_id):
            return blake2b(request_id.encode(), digest_size=_SESSION_ID_BYTES, person=verb.encode()).hexdigest()
    return None


def tell(request: Request, session_id: str, *, by_cookie: bool = False) -> str:
    """Have the answer, an error too, carry this name; returns it."""
    request.state.session = Named(session_id, by_cookie)
    return session_id


def session_headers(request: Request) -> dict[str, str]:
    """The answer's headers that name the session, as far as it is known."""
    named: Named | None = getattr(request.state, "session", None)
    if named is None:
        return {}
    headers = {HEADER: named.session_id}
    if named.by_cookie:
        secure = "; Secure" if request.url.scheme == "https" else ""
        headers["set-cookie"] = f"{COOKIE}={named.session_id}; Path=/; HttpOnly; SameSite=Lax{secure}"
    return headers
