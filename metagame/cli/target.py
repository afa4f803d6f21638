"""The server that a command talks to: where it is, the key it wants, and what to say where it does not answer.

Whatever keeps a command from its work is a `Refused`, whose text says what to do and whose `code` is the exit code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from metagame._version import __version__
from metagame.cli import CHECK_FAILED, UNREACHABLE, USAGE
from metagame.cli.outcome import Refused
from metagame.client.http import certificates, reason_of
from metagame.client.shapes import clause, in_words
from metagame.client.transport import Address, in_path, parse_base_url
from metagame.core.session import check_session_id
from metagame.errors import TABLE, InvalidRequest, SessionLost
from metagame.wire.keys import FORM, HEADER, is_key

TIMEOUT_S = 10.0
"""Longer than a server waits for its store."""
_WITHOUT_SCHEME = re.compile(r"(?:(?P<scheme>https?|wss?)(?::/*|/+)|/*)(?P<place>.*)", re.DOTALL | re.IGNORECASE)
_PORT = re.compile(r":?(\d{2,5})(?=/|$)")
_ABSENT = frozenset({404, 405})


class Unreachable(Refused):
    """Nobody answers, or somebody says that he cannot now: asked again later, there may be an answer."""

    def __init__(self, text: str) -> None:
        super().__init__(UNREACHABLE, text)


class NoSession(Refused):
    """There is no session of this id."""


class NoControl(Refused):
    """The server is in production mode, in which nobody sees or ends sessions by HTTP."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server's address, and the headers that every request to it carries."""

    address: Address
    headers: Mapping[str, str]

    @property
    def url(self) -> str:
        """The address without credentials, for people to read."""
        return self.address.http

    @property
    def keyed(self) -> bool:
        """Whether there is an API key among them."""
        return HEADER in self.headers

    @property
    def httpx_options(self) -> dict[str, Any]:
        """What httpx's clients take."""
        return {
            "headers": {"User-Agent": f"metagame/{__version__}", **self.headers},
            "timeout": TIMEOUT_S,
            "trust_env": not self.address.loopback,
            "verify": certificates() if self.url.startswith("https") else False,
        }


def target_of(url: str, api_key: str | None = None) -> Target:
    """The server at this URL; raises Refused for what is no server's address, or no key."""
    try:
        address, session_id = parse_base_url(url)
    except InvalidRequest as wrong:
        raise Refused(USAGE, _not_an_address(url, wrong)) from None
    if session_id is not None:
        raise Refused(USAGE, f"The URL names a session. Leave /sessions/... out: {address.http} is the server.")
    if not api_key:
        return Target(address, address.headers)
    if not is_key(api_key):
        raise Refused(USAGE, f"That is no API key: a key is {FORM}, without spaces or a line's end around it.")
    return Target(address, {**address.headers, HEADER: api_key})


class Server:
    """A server that is asked over HTTP, one request after the other; whatever goes wrong is a Refused."""

    def __init__(self, target: Target) -> None:
        self.url = target.url
        self._target = target
        self._client = httpx.Client(**target.httpx_options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **params: str | int) -> dict[str, Any]:
        """The object that stands there."""
        response = self._ask("GET", path, params)
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Refused(UNREACHABLE, _not_metagame(self.url, f"its {path} is no JSON object"))
        return found

    def session(self, session_id: str) -> dict[str, Any]:
        """The session as `GET /sessions/{id}` shows it; raises NoSession."""
        path = session_path(session_id)
        try:
            return self.get(path)
        except NoSession:
            text = f"There is no session {session_id}: it ended, expired, or was never made."
            raise NoSession(CHECK_FAILED, text, session_id=session_id) from None

    def end(self, session_id: str) -> None:
        """End the session, whether or not it exists."""
        self._ask("DELETE", session_path(session_id), {})

    def _ask(self, method: str, path: str, params: Mapping[str, str | int]) -> httpx.Response:
        response = self._send(method, path, params)
        if response.is_success:
            return response
        # Another path of the server's would tell a wrong address from one that has no such path.
        there = response.status_code not in _ABSENT or self._send("GET", "/health", {}).is_success
        raise refusal(self._target, path, response, there=there)

    def _send(self, method: str, path: str, params: Mapping[str, str | int]) -> httpx.Response:
        try:
            return self._client.request(method, self.url + path, params=dict(params))
        except httpx.TransportError as lost:
            raise Unreachable(nobody_answers(self.url, lost)) from lost
        except httpx.RequestError as wrong:
            raise Refused(UNREACHABLE, _not_metagame(self.url, f"its answer cannot be read: {wrong}")) from wrong


def session_path(session_id: str) -> str:
    """Where the session stands; raises Refused for what is no session id."""
    try:
        return f"/sessions/{in_path(check_session_id(session_id))}"
    except InvalidRequest as wrong:
        raise Refused(USAGE, str(wrong)) from None


def nobody_answers(url: str, lost: Exception) -> str:
    """The words for a server that is not there."""
    reason = clause(reason_of(lost) if isinstance(lost, httpx.TransportError) else lost)
    if "CERTIFICATE" in reason or "SSL" in reason:
        return (
            f"No secure connection to {url}: {reason}. Check the certificate, or whether the URL begins with http://."
        )
    return f"No server answers at {url}: {reason}. `metagame serve` starts one on port 8000."


def refusal(target: Target, path: str, response: httpx.Response, *, there: bool = True) -> Refused:
    """What an answer that is no success means, and what to do; `there`: other paths of the server are."""
    url, status = target.url, response.status_code
    said = _said(body_of(response))
    match status:
        case 401:
            return Refused(USAGE, _wants_key(target, response.headers.get("www-authenticate", "")))
        case 403:
            a_proxys = "not in Metagame's words, so a proxy or firewall before it does: let this path through there"
            return Refused(USAGE, f"{url} refuses {path} (HTTP status 403): {said or a_proxys}")
        case _ if status in _ABSENT:
            return _not_there(url, path, response, there=there)
        case 429 | 502 | 503 | 504:
            return Unreachable(f"{url} cannot answer now (HTTP status {status}): {said or 'a proxy finds no worker'}")
        case _ if response.is_redirect:
            where = response.headers.get("location", "elsewhere")
            return Refused(USAGE, f"{url} leads to {where}. Give that server's address as the URL.")
    refuses = f"{url} refuses {path} (HTTP status {status}): {said}"
    return Refused(UNREACHABLE, refuses if said else _not_metagame(url, f"HTTP status {status}"))


def body_of(response: httpx.Response) -> dict[str, Any]:
    """The JSON object that was answered; empty where it is none."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _said(body: Mapping[str, Any]) -> str:
    """What a Metagame server says of its refusal; empty where the answer is none of its: each has a code."""
    detail = body.get("detail", "")
    return (in_words(detail) or str(detail)) if "code" in body else ""


def _not_there(url: str, path: str, response: httpx.Response, *, there: bool) -> Refused:
    body = body_of(response)
    if body.get("reason") == TABLE[SessionLost].reason:
        return NoSession(CHECK_FAILED, _said(body))
    if "code" not in body or not there:
        return Refused(UNREACHABLE, _not_metagame(url, f"HTTP status {response.status_code} for {path}"))
    if path.startswith("/sessions"):
        text = f"{url} shows no sessions: it runs in production mode (METAGAME_MODE), where nobody lists, inspects"
        return NoControl(USAGE, f"{text} or ends them by HTTP. `metagame check` works there, and sockets do.")
    return Refused(USAGE, f"{url} has no {path}: its release is older than this command's, {__version__}. Update it.")


def _wants_key(target: Target, challenge: str) -> str:
    url = target.url
    if challenge.lower().startswith("basic"):
        return (
            f"A proxy before {url} wants a user and a password: put them into the URL, as https://user:password@host."
        )
    if target.keyed:
        return f"{url} does not take this API key (HTTP status 401): it is none of the server's METAGAME_API_KEYS."
    return f"{url} wants an API key (HTTP status 401): pass --api-key, or set METAGAME_API_KEY."


def _not_an_address(url: str, wrong: InvalidRequest) -> str:
    meant = None if "://" in url else _with_scheme(url.strip())
    if meant is not None:
        return f"{url!r} is no server's address: it has no scheme. Did you mean {meant}?"
    return str(wrong).replace("base_url", "The URL", 1)


def _with_scheme(typed: str) -> str | None:
    """The server's address that was meant, which is one then; None where nobody can tell."""
    found = _WITHOUT_SCHEME.fullmatch(typed)
    if found is None:
        return None
    scheme, place = found["scheme"] or "http", found["place"]
    if (port := _PORT.match(place)) is not None:
        place = f"localhost:{port[1]}{place[port.end() :]}"
    try:
        address, session_id = parse_base_url(f"{scheme}://{place}")
    except InvalidRequest:
        return None
    return f"{scheme}://{place}" if session_id is None else address.http


def _not_metagame(url: str, why: str) -> str:
    return (
        f"What answers at {url} is not a Metagame server: {clause(why)}."
        " Check the URL; it is the server's address without a path, unless a proxy adds one."
    )
