"""What operators and tools ask of a server: is it alive, is it ready, what does it serve."""

from __future__ import annotations

import asyncio
import gzip
from functools import cached_property
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from metagame.core import strictjson
from metagame.models import MetaGameState

from ..engine import Engine
from ..lifecycle import Lifecycle
from ..store.base import StoreFull, StoreUnavailable
from .bodies import takes_gzip
from .problems import JSON

PING_TIMEOUT_S = 1.0


class OpsSurface:
    """Health, readiness, metadata and schemas."""

    def __init__(self, engine: Engine, lifecycle: Lifecycle) -> None:
        self._engine = engine
        self._lifecycle = lifecycle

    def install(self, app: FastAPI) -> None:
        """Add the routes."""
        router = APIRouter(tags=["operations"])
        router.get("/health", summary="Is this worker alive")(self.health)
        router.get("/ready", summary="Should this worker get requests", response_model=None)(self.ready)
        for path, answer in (("/health", self.health), ("/ready", self.ready)):  # some balancers ask by HEAD
            router.head(path, include_in_schema=False, response_model=None)(answer)
        router.get("/metadata", summary="What environment this is")(self.metadata)
        router.get("/schema", summary="JSON schemas of actions, observations and state")(self.schema)
        app.include_router(router)

    async def health(self) -> dict[str, str]:
        """Alive, whatever the store does."""
        return {"status": "healthy"}

    async def ready(self) -> Response:
        """200 while requests are welcome; 503 while draining or without the store."""
        status = "draining" if self._lifecycle.draining else await self._store_status()
        return Response(strictjson.dumps({"status": status}), 200 if status == "ready" else 503, media_type=JSON)

    async def metadata(self, request: Request) -> Response:
        """OpenEnv's description of an environment; the README makes it long, so it is compressed for who takes that."""
        headers = {"vary": "Accept-Encoding"}
        if takes_gzip(request):
            return Response(self._metadata[1], headers=headers | {"content-encoding": "gzip"}, media_type=JSON)
        return Response(self._metadata[0], headers=headers, media_type=JSON)

    @cached_property
    def _metadata(self) -> tuple[bytes, bytes]:
        """As it is, and compressed."""
        game = self._engine.game
        about = {
            "name": game.name,
            "description": game.description,
            "readme_content": getattr(game, "readme", None),
            "version": game.version,
            "author": None,
            "documentation_url": None,
        }
        body = strictjson.dumps(about)
        return body, gzip.compress(body, mtime=0)

    async def schema(self) -> dict[str, Any]:
        """OpenEnv's schemas."""
        game = self._engine.game
        observation = game.observation_type.model_json_schema()
        return {
            "action": game.action_type.model_json_schema(),
            "observation": observation,
            "state": MetaGameState.model_json_schema(),
            "reset_observation": observation,
        }

    async def _store_status(self) -> str:
        try:
            await asyncio.wait_for(self._engine.store.ping(), PING_TIMEOUT_S)
        except StoreFull:
            return "ready"  # for what reads and for what ends sessions, which makes room
        except (StoreUnavailable, TimeoutError):
            return "redis_unavailable"
        return "ready"
