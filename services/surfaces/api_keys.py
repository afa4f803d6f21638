"""API keys: a server that has any answers nothing without one, but what balancers, monitors and browsers begin with.

The middleware stands outside of all that has a way of its own to an answer, the shortcut and the sockets among
it, and is not there at all on a server without keys. It keeps digests, not the keys, and compares all of them,
whichever is right: how long that takes tells nothing. No key is logged, shown or passed on.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable
from hashlib import blake2b

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from metagame.errors import TABLE, Unauthorized
from metagame.wire.answers import error_body
from metagame.wire.keys import keys_of_headers, keys_of_protocols

from ..meter import Meter
from ..meter.layout import REASONS
from .operators import KEYED
from .problems import JSON

FREE = frozenset({"", "/", "/health", "/ready", "/metrics", "/web"})
"""What needs no key, to be read: so that nobody hands keys to a balancer, and a page can ask for one."""
PAGE = "/web/"
NOT_OF_THE_PAGE = frozenset({"metadata", "reset", "step", "state"})
"""OpenEnv's requests that begin like the page's files."""

_ROW = TABLE[Unauthorized]


class ApiKeys:
    """The middleware; inside of the one that puts requests under their root path."""

    def __init__(self, app: ASGIApp, keys: Iterable[str], meter: Meter) -> None:
        self._app = app
        self._meter = meter
        self._salt = os.urandom(16)
        self._digests = [self._digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what carries a key or needs none; answer 401 to the rest, a handshake too."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        keyed = scope[KEYED] = self._is_keyed(scope)
        if keyed or is_free(scope):
            await self._app(scope, receive, send)
        else:
            self._meter.count(REASONS, _ROW.code, _ROW.reason)
            await _refuse(scope, receive, send)

    def _is_keyed(self, scope: Scope) -> bool:
        offered = keys_of_headers(scope["headers"])
        if scope["type"] == "websocket":
            offered += keys_of_protocols(scope.get("subprotocols") or ())
        right = False
        for key in offered:
            digest = self._digest(key)
            for known in self._digests:
                right |= hmac.compare_digest(digest, known)
        return right

    def _digest(self, key: bytes) -> bytes:
        return blake2b(key, digest_size=32, key=self._salt).digest()


def is_free(scope: Scope) -> bool:
    """Whether a request is answered without a key."""
    if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
        return False
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    if path.startswith(PAGE):
        return path.removeprefix(PAGE).partition("/")[0] not in NOT_OF_THE_PAGE
    return path in FREE


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    error = Unauthorized(
        "This server wants an API key, and the request carries none that it knows. Send it as"
        " `Authorization: Bearer KEY` or `X-API-Key: KEY`; Metagame's client and command take it as api_key= and"
        " --api-key, or from the variable METAGAME_API_KEY."
    )
    if scope["type"] == "websocket":
        await receive()  # the request to connect
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close"})  # all that such a server can say: 403
            return
    headers = {"www-authenticate": "Bearer", "cache-control": "no-store"}
    answer = Response(error_body(error), _ROW.status, headers, JSON)
    await answer(scope, receive, send)
