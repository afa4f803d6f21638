"""What trainers send all day, answered before FastAPI has looked for its route.

FastAPI's way to a handler costs three times what the handler does: it matches every route's pattern in turn,
keeps exit stacks and solves dependencies, of which these handlers have none. It has the same handlers
under the same paths, for the documents and for what is not allowed here; an error leaves in the same
form from both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from metagame.errors import MetaGameError

from .naming import QUERY
from .problems import problem

Handler = Callable[[Request], Awaitable[Response]]

SESSIONS = "/sessions/"
SOCKET = "ws"


class Shortcut:
    """The middleware: `/{verb}` and `/sessions/{session_id}/{verb}`, by `handlers` of method and verb, or `socket`."""

    def __init__(self, app: ASGIApp, handlers: Mapping[tuple[str, str], Handler], socket: ASGIApp) -> None:
        self._app = app
        self._handlers = handlers
        self._socket = socket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or leave it to the app."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        parent, _, verb = scope["path"].rpartition("/")
        named = path_params(parent, scope.get("root_path", ""))
        handler = self._handlers.get((scope.get("method", ""), verb))
        if named is not None and handler is not None:
            scope["path_params"] = named
            await _answer(handler, scope, receive, send)
        elif named is not None and scope["type"] == "websocket" and verb == SOCKET:
            scope["path_params"] = named
            await self._socket(scope, receive, send)
        else:
            await self._app(scope, receive, send)


async def _answer(handler: Handler, scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive, send)
    try:
        response = await handler(request)
    except MetaGameError as error:
        response = problem(error, request)
    await response(scope, receive, send)


def path_params(parent: str, root_path: str) -> dict[str, str] | None:
    """What the path before the verb names: nothing at the root, or a session; None where it is no path of ours."""
    if parent == root_path:
        return {}
    sessions = root_path + SESSIONS
    session_id = parent[len(sessions) :]
    return {QUERY: session_id} if parent.startswith(sessions) and session_id and "/" not in session_id else None
