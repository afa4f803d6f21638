"""Traces, by OpenTelemetry: what a request did here, as spans of the trace that its client began.

Imported only where METAGAME_TRACES asks for it, so that off costs nothing. A request is a span of its
surface (over HTTP) and one of the engine's; inside it each question to the store is one. A frame brings its context in
`traceparent`, an HTTP request in its header of that name, and a balancer passes both on. Where
tracing is on, every step goes the long way, sampled or not.

No span holds an id of a session or request, which are keys, or anything that a client sent.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metagame._version import __version__
from metagame.errors import MetaGameError, outward
from metagame.games import Observation
from metagame.wire.answers import StateAnswer
from metagame.wire.requests import ResetRequest, StepRequest
from metagame.wire.tools import ToolCall, ToolResult

from .attachment import Attachment
from .engine import Engine
from .records import session_hash
from .store.base import Outcome, SessionStore
from .submission import Submission

TRACEPARENT = "traceparent"
QUIET = ("/health", "/ready", "/metrics")
"""Asked all day by whoever watches; no trace of anybody's."""
ASKED_BY_REQUESTS = ("load", "inspect", "make", "commit", "attach", "detach", "end", "page")
SERVER_ERROR = 500
_context = TraceContextTextMapPropagator()


class Traces:
    """One server's traces: what takes the place of engine and store, the middleware, and where spans go.

    By OTLP over HTTP, or to the console. OpenTelemetry's own variables hold, such as
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME and OTEL_TRACES_SAMPLER.
    """

    def __init__(self, exporter: str, *, system: str) -> None:
        instance = f"{socket.gethostname()}-{os.getpid()}"
        ours = Resource({SERVICE_NAME: "metagame", SERVICE_VERSION: __version__, SERVICE_INSTANCE_ID: instance})
        self._provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()))
        self._provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
        self._tracer = self._provider.get_tracer("metagame", __version__)
        self._system = system

    def engine(self, *given: Any, **named: Any) -> Engine:
        """An engine that traces, made as any is."""
        return TracedEngine(self._tracer, *given, **named)

    def store(self, store: SessionStore) -> SessionStore:
        """The store with a span for each question of a request."""
        return cast("SessionStore", TracedStore(store, self._tracer, system=self._system))

    def http(self, app: ASGIApp) -> ASGIApp:
        """The middleware."""
        return TracedHttp(app, self._tracer)

    def shutdown(self) -> None:
        """Send what is left, waiting for it."""
        self._provider.shutdown()


class TracedEngine(Engine):
    """The engine whose operations are spans; nothing is done without a coroutine, which no span could follow."""

    def __init__(self, tracer: Tracer, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._tracer = tracer

    async def reset(self, session_id: str, request: ResetRequest, attachment: Attachment | None = None) -> Observation:
        """See Engine."""
        with self._operation("reset", session_id, request.traceparent) as span:
            seen = await super().reset(session_id, request, attachment)
            _note_observation(span, seen)
            return seen

    async def step(self, session_id: str, request: StepRequest, attachment: Attachment | None = None) -> Observation:
        """See Engine."""
        with self._operation("step", session_id, request.traceparent) as span:
            seen = await super().step(session_id, request, attachment)
            _note_observation(span, seen)
            return seen

    def step_soon(self, request: StepRequest, attachment: Attachment, told: Callable[[Submission], None]) -> bool:  # noqa: ARG002 - Engine's signature
        """Never: the socket then takes the step by `step`."""
        return False

    async def call(
        self,
        session_id: str | None,
        asked: ToolCall,
        attachment: Attachment | None = None,
        *,
        begins: bool = True,
    ) -> ToolResult:
        """See Engine."""
        with self._operation("call", session_id) as span:
            span.set_attribute("metagame.tool", asked.name if self._has(asked.name) else "unknown")
            return await super().call(session_id, asked, attachment, begins=begins)

    async def state(
        self, session_id: str, attachment: Attachment | None = None, *, traceparent: str | None = None
    ) -> StateAnswer:
        """See Engine."""
        with self._operation("state", session_id, traceparent):
            return await super().state(session_id, attachment)

    def _has(self, tool: str) -> bool:
        return any(one.name == tool for one in self.tools())

    @contextmanager
    def _operation(self, name: str, session_id: str | None, traceparent: str | None = None) -> Iterator[Span]:
        came = None if traceparent is None else _context.extract({TRACEPARENT: traceparent})
        inside = traceparent is None and get_current_span().is_recording()
        kind = SpanKind.INTERNAL if inside else SpanKind.SERVER
        with (
            self._tracer.start_as_current_span(
                f"metagame.{name}", came, kind, record_exception=False, set_status_on_exception=False
            ) as span,
            _failing(span),
        ):
            if session_id is not None:
                span.set_attribute("metagame.session", session_hash(session_id))
            yield span


class TracedStore:
    """A store whose answers to requests are spans; upkeep's are nobody's."""

    def __init__(self, store: SessionStore, tracer: Tracer, *, system: str) -> None:
        self._store = store
        self._tracer = tracer
        self._system = system

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        return self._spanned(name, verb) if name in ASKED_BY_REQUESTS else verb

    def _spanned(self, name: str, verb: Callable[..., Any]) -> Callable[..., Any]:
        async def traced(*given: Any, **named: Any) -> Any:
            if not get_current_span().is_recording():
                return await verb(*given, **named)
            with (
                self._tracer.start_as_current_span(
                    f"store.{name}", kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
                ) as span,
                _failing(span),
            ):
                span.set_attribute("db.system.name", self._system)
                span.set_attribute("db.operation.name", name)
                answer = await verb(*given, **named)
                if isinstance(answer, Outcome):
                    span.set_attribute("metagame.outcome", answer.word.value)
                return answer

        return traced


class TracedHttp:
    """The middleware: a span for each HTTP request, of the trace that its header names."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Leave it to the app, within a span."""
        if scope["type"] != "http" or scope["path"].endswith(QUIET):
            await self._app(scope, receive, send)
            return
        came = _context.extract({TRACEPARENT: Headers(scope=scope).get(TRACEPARENT, "")})
        method = scope["method"]
        with (
            self._tracer.start_as_current_span(
                method, came, SpanKind.SERVER, record_exception=False, set_status_on_exception=False
            ) as span,
            _failing(span),
        ):
            span.set_attribute("http.request.method", method)

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _note_status(span, message["status"])
                await send(message)

            try:
                await self._app(scope, receive, watched)
            finally:
                route = route_of(scope)
                if route is not None:
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        # A line a span, as a log has it.
        return ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: f"{span.to_json(indent=None)}\n")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - large

    return OTLPSpanExporter()


def route_of(scope: Scope) -> str | None:
    """The pattern of the path, which holds no session id as the path may; None where no route was found."""
    path: str | None = getattr(scope.get("route"), "path", None)
    if path is not None or "path_params" not in scope:
        return path
    verb = scope["path"].rpartition("/")[2]
    return f"/sessions/{{session_id}}/{verb}" if scope["path_params"] else f"/{verb}"


@contextmanager
def _failing(span: Span) -> Iterator[None]:
    """Say in the span which error ended it, by its code: the text may hold what a client sent."""
    try:
        yield
    except MetaGameError as error:
        span.set_attribute("error.type", outward(error).code)
        span.set_status(Status(StatusCode.ERROR))
        raise
    except Exception as error:
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(Status(StatusCode.ERROR))
        raise


def _note_status(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= SERVER_ERROR:
        span.set_status(Status(StatusCode.ERROR))


def _note_observation(span: Span, seen: Observation) -> None:
    span.set_attribute("metagame.done", seen.done)
    if isinstance(seen.reward, int | float):
        span.set_attribute("metagame.reward", seen.reward)
