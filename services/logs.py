"""Log lines: for people on a terminal, or one JSON object a line for machines.

One line per event in a session's or worker's life, none per step unless asked for. A session is named by its
hash, since its id is a bearer key, and so is a request, since a session's id may follow from its id; a
message's content is never logged, in tracebacks neither. Each line names its worker.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import structlog
import structlog.tracebacks
from structlog.typing import Processor


def configure(log_format: Literal["console", "json"] | None, worker_id: str) -> None:
    """Set structlog up; without a format a terminal gets lines for people, anything else those for machines."""
    if log_format is None:
        log_format = "console" if sys.stderr.isatty() else "json"
    heads = [_head(worker_id)]
    wrapper = structlog.make_filtering_bound_logger(logging.INFO)
    if log_format == "json":
        renderers = _for_machines()
        factory: Any = structlog.BytesLoggerFactory(sys.stderr.buffer)
        _take_in(heads, renderers)
    else:
        renderers = _for_people()
        factory = structlog.PrintLoggerFactory(sys.stderr)
    structlog.configure([*heads, *renderers], wrapper, logger_factory=factory, cache_logger_on_first_use=True)


def _head(worker_id: str) -> Processor:
    """When, how bad, what and where stand first in each line."""

    def put_head(_logger: object, method: str, line: MutableMapping[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        level = "error" if method == "exception" else method
        return {"timestamp": f"{now[:-6]}Z", "level": level, "event": line.pop("event"), "worker": worker_id, **line}

    return put_head


def _for_people() -> list[Any]:
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


def _for_machines() -> list[Any]:
    """Tracebacks go without local variables, which hold what clients sent."""
    frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [structlog.processors.ExceptionRenderer(frames), structlog.processors.JSONRenderer(serializer=_line)]


def _line(fields: Any, default: Callable[[Any], Any]) -> bytes:
    """The line; orjson takes a tenth of json's time, but no text that is not Unicode."""
    try:
        return orjson.dumps(fields, default=default)
    except TypeError:
        return json.dumps(fields, default=default).encode()


def _take_in(heads: list[Processor], renderers: list[Any]) -> None:
    """Have what the server and libraries log by standard means be JSON as well."""

    def as_text(_logger: object, _method: str, line: Any) -> str:
        return bytes(line).decode()

    bare = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=heads, processors=[bare, *renderers, as_text])
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler(sys.stderr))
    for handler in [*root.handlers, *logging.getLogger("uvicorn").handlers]:
        handler.setFormatter(formatter)
