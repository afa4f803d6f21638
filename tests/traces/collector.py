"""A collector of traces: takes what OTLP over HTTP brings, and keeps it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

WAIT_S = 20.0
SERVER, CLIENT, INTERNAL = 2, 3, 1
"""Kinds of spans, as OTLP numbers them."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A span: ids in hex, and who sent it."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    failed: bool
    attributes: dict[str, Any]
    events: tuple[str, ...]
    instance: str


class Collector:
    """What has come so far; `raw` is the bytes of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Kept] = []
        self.raw = b""

    def environment(self) -> dict[str, str]:
        """The variables that have a server send here, soon."""
        return {
            "METAGAME_TRACES": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "NO_PROXY": "127.0.0.1",
        }

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        self.raw += body
        for resource in request.resource_spans:
            sender = _attributes(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans += [_kept(span, str(sender.get("service.instance.id", ""))) for span in scope.spans]

    def wait_for(self, found: Callable[[list[Kept]], bool]) -> list[Kept]:
        """All spans, once there are such."""
        until = time.monotonic() + WAIT_S
        while not found(list(self.spans)):
            assert time.monotonic() < until, sorted({span.name for span in self.spans})
            time.sleep(0.02)
        return list(self.spans)


@contextmanager
def collector() -> Iterator[Collector]:
    kept: Collector

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _kept(span: Any, instance: str) -> Kept:
    return Kept(
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.status.code == 2,
        _attributes(span.attributes),
        tuple(event.name for event in span.events),
        instance,
    )


def _attributes(given: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in given}
