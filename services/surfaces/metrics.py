"""`GET /metrics`: what the workers of this container counted, for Prometheus; any of them answers for all.

It is for whoever runs the servers: the balancer lets no client have it.
"""

from __future__ import annotations

import asyncio
import platform

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

from metagame import __version__

from ..engine import Engine
from ..store.base import StoreUnavailable, UnreadableRecord

COUNT_TIMEOUT_S = 1.0
"""How long a scrape waits for the store: the counts are there without it."""


class MetricsSurface:
    """The handler."""

    def __init__(self, engine: Engine, *, max_sessions: int, redis: bool) -> None:
        self._engine = engine
        self._max_sessions = max_sessions
        self._redis = redis

    def install(self, app: FastAPI) -> None:
        """Add the route."""
        router = APIRouter(tags=["operations"])
        router.get(
            "/metrics", summary="What the workers here counted, for Prometheus", response_class=PlainTextResponse
        )(self.metrics)
        app.include_router(router)

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text, or OpenMetrics' where that is asked for."""
        await asyncio.to_thread(_import)
        from ..meter.exposition import Facts, render  # noqa: PLC0415 - a worker that nobody scrapes does without

        build = {"version": __version__, "python": platform.python_version(), "game": self._engine.game.name}
        resident = await self._resident()
        facts = Facts(build, self._max_sessions, resident, self._redis)
        self._engine.meter.look_at_process()
        body, content_type = render(self._engine.meter.totals(), facts, request.headers.get("accept", ""))
        return Response(body, media_type=content_type)

    async def _resident(self) -> int | None:
        try:
            return await asyncio.wait_for(self._engine.store.count(), COUNT_TIMEOUT_S)
        except (StoreUnavailable, UnreadableRecord, TimeoutError):
            return None


def _import() -> None:
    """Import the text's writer, away from the event loop: the first time takes long."""
    from ..meter import exposition  # noqa: F401, PLC0415 - see above
