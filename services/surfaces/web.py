"""The page at `/web`, and the routes of OpenEnv's own page beside it.

The page is static: it plays on the socket of a session of its own and asks for the pool like any other client, so any
worker serves any part of it. OpenEnv's page has one environment for all its visitors; here its routes act on the
session that the request names, as `/reset`, `/step` and `/state` do: by the cookie, where nothing else names one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.routing import Route

from metagame.wire.page import decode_page_step, page_observation_body

from . import describe, static_files
from .http import HttpSurface
from .ops import OpsSurface

INDEX = "index.html"


class WebSurface:
    """The handlers; `environment` is None where no request may reset, step or look at one."""

    def __init__(self, ops: OpsSurface, environment: PageHttp | None) -> None:
        self._ops = ops
        self._environment = environment

    def install(self, app: FastAPI) -> None:
        """Add the routes, one for each file: any other name is as unknown as any other path."""
        routes = APIRouter(prefix="/web", tags=["page"])
        routes.get("/metadata", summary="What environment this is")(self._ops.metadata)
        if self._environment is not None:
            self._environment.install_at(routes)
        app.include_router(routes)
        app.router.routes.extend(Route(path, _lead) for path in ("/", "/web"))
        app.router.routes.append(Route("/web/", _sending(INDEX)))
        app.router.routes.extend(Route(f"/web/{name}", _sending(name)) for name in sorted(static_files.names()))


async def _lead(_request: Request) -> Response:
    """To the page, relatively: whatever path, host and scheme a proxy makes of ours."""
    return Response(status_code=HTTPStatus.TEMPORARY_REDIRECT, headers={"location": "web/"})


def _sending(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def file(request: Request) -> Response:
        return static_files.send(name, request)

    return file


class PageHttp(HttpSurface):
    """OpenEnv's HTTP, in the shapes of its page."""

    surface = "web"
    decode_step = staticmethod(decode_page_step)
    encode = staticmethod(page_observation_body)

    def install_at(self, router: APIRouter) -> None:
        """Add the routes of one environment."""
        game = self._engine.game
        router.post("/reset", **describe.reset(game, describe.BY_HEADER))(self.reset)
        router.post("/step", **describe.page_step(game, describe.BY_HEADER))(self.step)
        router.get("/state", **describe.state(describe.BY_HEADER))(self.state)
