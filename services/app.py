"""The composition root: settings in, a server out.

uvicorn services.app:app        reads the environment; another game is served by `open_app`
python -m services.app          the same with the listening socket set up as it should be
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import multiprocessing
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.routing import WebSocketRoute

from metagame import __version__
from metagame.games import Game
from metagame.games.echo import EchoGame

from . import logs
from .engine import Engine
from .lifecycle import Lifecycle
from .meter import Meter
from .meter.meter import open_meter
from .settings import PREFIX, Settings, SettingsError, hide_password, load_settings, unknown_variables
from .store.base import SessionStore
from .surfaces import problems
from .surfaces.api_keys import ApiKeys
from .surfaces.http import HttpSurface
from .surfaces.mcp import PATHS as MCP_PATHS
from .surfaces.mcp import McpSurface
from .surfaces.mcp_socket import McpSocketSurface
from .surfaces.metrics import MetricsSurface
from .surfaces.ops import OpsSurface
from .surfaces.origins import OnlyOrigins, Origins
from .surfaces.pool import PoolSurface
from .surfaces.root_path import RootPath
from .surfaces.shortcut import Shortcut
from .surfaces.tasks import TasksSurface
from .surfaces.web import PageHttp, WebSurface
from .surfaces.websocket import WebSocketSurface
from .upkeep import Upkeep
from .vitals import Pulse, counts_of

if TYPE_CHECKING:
    from .tracing import Traces

SETTINGS_EXIT = 2
WEBSOCKET_PATHS = ("/ws", "/sessions/{session_id}/ws")
_EXPORTER = "opentelemetry.exporter"
TRACING = (
    "opentelemetry.sdk",
    _EXPORTER,
    f"{_EXPORTER}.otlp",
    f"{_EXPORTER}.otlp.proto",
    f"{_EXPORTER}.otlp.proto.http",
)
"""What the extra brings; the API alone comes with FastAPI."""
YOUNG_OBJECTS = 100_000
"""New objects after which garbage is sought among them: with Python's 700, opening sockets costs an eighth more."""

log = structlog.get_logger()


def create_app(
    settings: Settings, game: Game | None = None, store: SessionStore | None = None, meter: Meter | None = None
) -> FastAPI:
    """The server of one game; the store is opened from the settings unless one is given."""
    game = game or EchoGame(settings.max_message_length)
    meter = meter or Meter()
    store = store or open_store(settings, meter)
    traces = open_traces(settings)
    engine = (Engine if traces is None else traces.engine)(
        game,
        store if traces is None else traces.store(store),
        max_sessions=settings.max_sessions,
        timeout_s=settings.redis_timeout_s,
        step_before_reset=settings.step_before_reset == "allow",
        meter=meter,
        log_steps=settings.log_steps,
    )
    lifecycle = Lifecycle(drain_timeout_s=settings.drain_timeout_s, meter=meter)
    pulse = Pulse(meter.worker_id, lambda: counts_of(meter), draining=lambda: lifecycle.draining)
    upkeep = Upkeep(engine, session_ttl_s=settings.session_ttl_s, pulse=pulse)
    lifecycle.when_draining(upkeep.announce_now)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        lifecycle.take_sigterm()
        upkeep.start()
        where = "memory" if settings.redis_url is None else hide_password(settings.redis_url)
        log.info("worker started", pid=os.getpid(), version=__version__, game=game.name, store=where)
        yield
        await upkeep.stop()
        await store.close()
        if traces is not None:
            await asyncio.to_thread(traces.shutdown)
        log.info("worker stopped")
        logs.flush()

    app = FastAPIOffline(
        title="Metagame",
        version=__version__,
        description=f"{game.description} A session belongs to no process: any worker serves any step.",
        lifespan=lifespan,
        redoc_url=None,  # its page fetches a logo from elsewhere
    )
    problems.install(app)
    OpsSurface(engine, lifecycle).install(app)
    MetricsSurface(engine, max_sessions=settings.max_sessions, redis=settings.redis_url is not None).install(app)
    store_name = "memory" if settings.redis_url is None else "redis"
    PoolSurface(engine, pulse, max_sessions=settings.max_sessions, store_name=store_name).install(app)
    _let_players_in(app, settings, engine, lifecycle)
    if settings.keys:
        app.add_middleware(ApiKeys, keys=settings.keys, meter=meter)
    if settings.origins:  # outside of the keys: a browser asks beforehand without one
        app.add_middleware(OnlyOrigins, origins=Origins(settings.origins))
    if traces is not None:
        app.add_middleware(traces.http)
    if settings.root_path is not None:
        app.add_middleware(RootPath, root_path=settings.root_path)
    return app


def _let_players_in(app: FastAPI, settings: Settings, engine: Engine, lifecycle: Lifecycle) -> None:
    """The ways in for those who play: HTTP unless in production, sockets, and both for agents."""
    limit = settings.max_frame_bytes
    http = HttpSurface(engine, lifecycle, max_body_bytes=limit)
    controlled = settings.mode == "simulation"
    if controlled:
        http.install(app)
    TasksSurface(engine.game, max_body_bytes=limit).install(app)
    socket = WebSocketSurface(engine, lifecycle, max_frame_bytes=limit)
    app.router.routes.extend(WebSocketRoute(path, socket) for path in WEBSOCKET_PATHS)
    origins = Origins(settings.origins)
    McpSurface(engine, lifecycle, origins, max_body_bytes=limit).install(app)
    agents = McpSocketSurface(engine, lifecycle, origins, max_frame_bytes=limit)
    app.router.routes.extend(WebSocketRoute(path, agents) for path in MCP_PATHS)
    if settings.web:
        page_http = PageHttp(engine, lifecycle, max_body_bytes=limit) if controlled else None
        WebSurface(OpsSurface(engine, lifecycle), page_http).install(app)
    app.add_middleware(Shortcut, handlers=http.environment if controlled else {}, socket=socket)


def open_store(settings: Settings, meter: Meter | None = None) -> SessionStore:
    """The store that the settings name, counting on the meter; nothing is connected yet."""
    max_sessions, ttl_ms = settings.max_sessions, settings.session_ttl_ms
    if settings.redis_url is None:
        from .store.memory import MemoryStore  # noqa: PLC0415 - a server without Redis loads no Redis client

        return MemoryStore(max_sessions=max_sessions, ttl_ms=ttl_ms, meter=meter)
    from .store.connect import open_client, wait_for  # noqa: PLC0415 - as above
    from .store.redis import RedisStore  # noqa: PLC0415 - as above

    try:
        client = open_client(settings.redis_url, timeout_s=settings.redis_timeout_s)
    except ValueError as wrong:
        message = f"{PREFIX}REDIS_URL is not allowed: {wrong}"
        raise SettingsError(message) from None
    replicas = wait_for(settings.redis_wait_replicas, timeout_s=settings.redis_timeout_s)
    return RedisStore(
        client,
        max_sessions=max_sessions,
        ttl_ms=ttl_ms,
        replicas=replicas,
        timeout_s=settings.redis_timeout_s,
        meter=meter,
    )


def open_traces(settings: Settings) -> Traces | None:
    """What traces where the settings ask for it; raises SettingsError where its libraries are missing."""
    if settings.traces == "off":
        return None
    _check_traces(settings)
    from .tracing import Traces  # noqa: PLC0415 - off loads none of it

    return Traces(settings.traces, system="memory" if settings.redis_url is None else "redis")


def _check_traces(settings: Settings) -> None:
    if settings.traces != "off" and any(importlib.util.find_spec(name) is None for name in TRACING):
        message = (
            f"{PREFIX}TRACES is {settings.traces!r}, but OpenTelemetry is not installed:"
            ' pip install "openenv-metagame[otel]", or unset it.'
        )
        raise SettingsError(message)


def spare_the_collector() -> None:
    """Have garbage sought less often, and never in what stands since the start: a request leaves nearly none."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


def main(**flags: Any) -> int:
    """Serve until stopped; flags are settings by name, None where not given. Returns an exit code."""
    from .serve import serve  # noqa: PLC0415 - under another server this module runs without uvicorn

    try:
        settings = load_settings(**flags)
        open_store(settings)
        _check_traces(settings)
        # Worker processes build their app from the environment.
        os.environ.update({PREFIX + name.upper(): str(value) for name, value in flags.items() if value is not None})
        return serve(settings, f"{__package__}.app:app")
    except SettingsError as wrong:
        return _refuse(wrong)


def _refuse(wrong: SettingsError) -> int:
    print(f"metagame: {wrong}", file=sys.stderr)  # noqa: T201 - before logging is set up
    return SETTINGS_EXIT


def _meter() -> tuple[Meter, str | None]:
    """The worker's meter, and why it is apart from those of its supervisor's other workers, if it must be."""
    try:
        return open_meter(), None
    except OSError as wrong:
        return Meter(), wrong.strerror or type(wrong).__name__


def open_app(game: Game | None = None) -> FastAPI:
    """The server of one game (echo unless told otherwise) as the environment has it, its log set up.

    A wrong setting ends the process with exit code 2 and says what is allowed.
    """
    try:
        settings = load_settings()
        if settings.redis_url is None and multiprocessing.parent_process() is not None and "--reload" not in sys.argv:
            # uvicorn's --workers: the setting WORKERS knows nothing of them.
            message = f"several workers need {PREFIX}REDIS_URL: without it each would have sessions of its own"
            raise SettingsError(message)  # noqa: TRY301 - one way out for every wrong setting
        meter, why_alone = _meter()
        logs.configure(settings.log_format, meter.worker_id)
        if why_alone is not None:
            remedy = "see that TMPDIR, or /tmp, can be written to and has room, and start again"
            log.warning("this worker's counts are in no other's metrics", reason=why_alone, remedy=remedy)
        for variable, meant in unknown_variables().items():
            log.warning("a variable that is no setting is ignored", variable=variable, did_you_mean=meant)
        app = create_app(settings, game, meter=meter)
    except SettingsError as wrong:
        sys.exit(_refuse(wrong))
    if settings.redis_url is None:
        log.warning(
            "sessions live in this process's memory and are lost with it",
            remedy=f"set {PREFIX}REDIS_URL to keep them and to run more than one worker",
        )
    spare_the_collector()
    return app


def __getattr__(name: str) -> Any:
    """`app`, made when a server asks for it, so that importing this module starts nothing."""
    if name != "app":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    globals()["app"] = app = open_app()
    return app


if __name__ == "__main__":
    sys.exit(main())
