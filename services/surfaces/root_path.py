"""Serving under a path that a proxy in front adds, whether it strips that path or passes it on.

Here and not in the server's own `root_path`: it then holds under any ASGI server, and takes
requests of both kinds, also those that come past the proxy, such as probes. ASGI wants `path` to
contain `root_path`; the router cuts it off, redirects and the documentation put it on.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """The middleware; `root_path` has a slash first and none at its end."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the request stand under the root path exactly once."""
        if scope["type"] in {"http", "websocket"}:
            scope["root_path"] = self._root_path
            if not f"{scope['path']}/".startswith(f"{self._root_path}/"):
                scope["path"] = self._root_path + scope["path"]
        await self._app(scope, receive, send)
