"""Who is an operator: what shows the whole pool, or every session's id, is for nobody else.

Where API keys are set, whoever sends one. Where none are, whoever asks from this machine itself: by a
connection from a loopback address, through no proxy but such as say for whom they ask, for loopback
addresses only, of a server that the request calls by a loopback name, and from no other website's page in a
browser here. The name is against a page whose own name was made to lead to this machine; and a page of another
website might read the answer, where METAGAME_ALLOWED_ORIGINS lets it play.

A server may take a client's address from X-Forwarded-For, where anybody may write what they like, and one that
trusts every proxy takes the first that stands there. So that header is never a reason to believe, only one to
refuse: all its addresses count, also the one that a balancer adds for the client that it sees. And the
connection's own address is needed, which our own server notes before it is replaced; of a request with that
header under another server nobody knows where it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

from starlette.types import Scope

from metagame.errors import Forbidden

PEER = "metagame.peer"
"""In an HTTP request's scope: the address that the connection comes from, whatever headers say."""
KEYED = "metagame.keyed"
"""In the scope where API keys are set: whether this request carries one."""
_SPEAKS_FOR = frozenset({b"x-forwarded-for", b"x-real-ip"})
_SPEAKS_IN_OTHER_WORDS = b"forwarded"
_PLACE = re.compile(
    r"\[(?P<bracketed>[0-9a-f:.]+)\](:[0-9]*)?|(?P<plain>[a-z0-9.-]+)(:[0-9]*)?|(?P<bare>[0-9a-f:.]+)", re.IGNORECASE
)


def check_operator(scope: Scope) -> None:
    """Raise Forbidden where an HTTP request is no operator's."""
    if not is_operator(scope):
        message = (
            "This is for operators only. As long as the server has no METAGAME_API_KEYS, it is shown to this machine"
            " itself: ask at http://localhost on the machine, or in the container, where a worker runs. Or set"
            " METAGAME_API_KEYS, and send one of the keys as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
        )
        raise Forbidden(message)


def is_operator(scope: Scope) -> bool:
    """Whether an HTTP request is an operator's."""
    keyed: bool | None = scope.get(KEYED)
    return _is_local(scope) if keyed is None else keyed


def is_misled(scope: Scope) -> bool:
    """Whether the request comes from this machine, as far as anybody says, but by a name that is not this machine's."""
    headers = scope["headers"]
    said = [value for name, value in headers if name in _SPEAKS_FOR]
    client = scope.get(PEER, scope.get("client"))
    here = [] if client is None else [client[0]]
    here += [one for line in said for one in line.decode("latin-1").split(",")]
    local = bool(here) and all(map(_is_loopback, here)) and all(name != _SPEAKS_IN_OTHER_WORDS for name, _ in headers)
    named = next((value for name, value in headers if name == b"host"), b"")
    return local and not _names_loopback(named.decode("latin-1"))


class NotesPeer:
    """What our own server puts before all else, so that the connection's own address is not forgotten."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        """Note it; no coroutine of its own, which would be woken for each of the app's."""
        if scope["type"] == "http":
            scope[PEER] = scope.get("client")
        return self._app(scope, receive, send)


def _is_local(scope: Scope) -> bool:
    hosts: list[str] = []
    origins: list[str] = []
    said: list[str] = []
    for name, value in scope["headers"]:
        if name == b"host":
            hosts.append(value.decode("latin-1"))
        elif name == b"origin":
            origins.append(value.decode("latin-1"))
        elif name in _SPEAKS_FOR:
            said += value.decode("latin-1").split(",")
        elif name == _SPEAKS_IN_OTHER_WORDS:
            return False
    if len(hosts) != 1 or not _names_loopback(hosts[0]):
        return False
    if any(origin.partition("://")[2].lower() != hosts[0].lower() for origin in origins):
        return False
    client = scope.get(PEER, None if said else scope.get("client"))
    if client is None or not _is_loopback(client[0]):
        return False
    return all(map(_is_loopback, said))


def _names_loopback(host: str) -> bool:
    found = _PLACE.fullmatch(host)
    return found is not None and ((found["plain"] or "").lower() == "localhost" or _is_loopback(host))


def _is_loopback(place: str) -> bool:
    """Whether it is a loopback address, maybe with a port."""
    found = _PLACE.fullmatch(place.strip())
    if found is None:
        return False
    try:
        address = ip_address(found["bracketed"] or found["plain"] or found["bare"])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
