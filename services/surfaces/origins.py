"""Which websites' pages may use this server from a visitor's browser.

A browser names the page's origin in `Origin`; other clients send none, and are never refused for it.
A page that this server served itself is always welcome, which is one whose origin is the name that the
server was asked by; on this machine only by a loopback name, since any website's name can be made to lead
here. Where no origins are set, `/mcp` takes none but those, as MCP asks of servers (a page would else reach
a server on the visitor's own machine by its agents' door), and the rest is open to all, as OpenEnv's is.
Where some are set, they and the own one are the only ones, on every path and socket, and those may
read answers too (CORS).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from .operators import is_misled
from .problems import refusal

ANY = "*"
READABLE = ["mcp-session-id", "retry-after", "x-session-id"]
"""Headers of answers that a page of another origin may read."""
PREFLIGHT_MAX_AGE_S = 600
REFUSED = "Requests from pages of this origin are not answered here. METAGAME_ALLOWED_ORIGINS lists those that are."


class Origins:
    """The origins that are allowed besides the server's own: none, some or any."""

    def __init__(self, allowed: tuple[str, ...] = ()) -> None:
        self.allowed = allowed

    def check(self, scope: Scope) -> None:
        """Refuse a page of another website; raises HTTPException."""
        if not self.welcomes(scope):
            raise HTTPException(403, REFUSED)

    def welcomes(self, scope: Scope) -> bool:
        """Whether the request is no browser's, or of a page that may."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None or ANY in self.allowed or origin.lower() in self.allowed:
            return True
        own = urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
        return own and not is_misled(scope)


class OnlyOrigins:
    """The middleware for origins that are set: others are refused, these may read what is answered."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._origins = origins
        self._app = CORSMiddleware(
            app,
            allow_origins=origins.allowed,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=[ANY],
            expose_headers=READABLE,
            max_age=PREFLIGHT_MAX_AGE_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or leave it to the app."""
        if scope["type"] == "lifespan" or self._origins.welcomes(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await turn_away(receive, send)
        else:
            await refusal(403, REFUSED)(scope, receive, send)


async def turn_away(receive: Receive, send: Send) -> None:
    """Answer a socket's handshake with 403."""
    await receive()
    await send({"type": "websocket.close"})
