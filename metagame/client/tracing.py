"""A span of OpenTelemetry's around each call, where the program that uses the client traces at all.

Nothing is imported for it: a program that traces has imported OpenTelemetry itself. Its span's context goes
along with the request, so that the server's spans belong to the same trace.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from metagame._version import __version__
from metagame.wire.requests import ResetRequest, StateRequest, StepRequest

RequestT = TypeVar("RequestT", bound=ResetRequest | StepRequest | StateRequest)
_API = "opentelemetry.trace"
_HEADER = "traceparent"


@contextmanager
def traced(request: RequestT) -> Iterator[RequestT]:
    """The request as it is to be sent, within a span of its own."""
    api: Any = sys.modules.get(_API)
    if api is None:
        yield request
        return
    tracer = api.get_tracer("metagame", __version__)
    with tracer.start_as_current_span(f"metagame.{request.kind.value}", kind=api.SpanKind.CLIENT):
        yield replace(request, traceparent=_here())


def sent_again(reason: str) -> None:
    """Note in the span that an attempt failed and another one follows."""
    api: Any = sys.modules.get(_API)
    if api is not None:
        api.get_current_span().add_event("sent again", {"reason": reason})


def _here() -> str | None:
    """The context of the span that runs, as the W3C writes it; None where nobody records."""
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 - a program that traces has it
        TraceContextTextMapPropagator,
    )

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(_HEADER)
