"""Log lines: for people on a terminal, or one JSON object a line for machines.

One line per event in a session's or worker's life, none per step unless asked for. A session is named by its
hash, since its id is a bearer key, and so is a request, since a session's id may follow from its id; a
message's content is never logged, in tracebacks neither. Each line names its worker.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, BinaryIO, Literal

import orjson
import structlog
import structlog.tracebacks

LATE_S = 0.05
"""How long a line may wait for others. Written one by one between all else that is done, lines cost three times as
much, and sockets that open by the thousand would wait for them."""

Fields = dict[str, Any]
Render = Callable[[str, datetime, Fields], bytes]


class Writer:
    """Writes lines, several at once; a warning and worse at once, with all that wait."""

    def __init__(self, file: BinaryIO, render: Render) -> None:
        self._file = file
        self._render = render
        self._waiting: list[tuple[str, datetime, Fields]] = []

    def info(self, method: str, now: datetime, line: Fields) -> None:
        """Write it soon; now, where no event loop runs."""
        self._waiting.append((method, now, line))
        if len(self._waiting) == 1:
            try:
                asyncio.get_running_loop().call_later(LATE_S, self.flush)
            except RuntimeError:
                self.flush()

    def warning(self, method: str, now: datetime, line: Fields) -> None:
        """Write it now."""
        self._waiting.append((method, now, line))
        self.flush()

    error = critical = exception = warning

    def flush(self) -> None:
        """Write what waits."""
        lines, self._waiting = self._waiting, []
        if lines:
            self._file.write(b"".join([self._render(*line) + b"\n" for line in lines]))
            self._file.flush()


def configure(log_format: Literal["console", "json"] | None, worker_id: str) -> None:
    """Set structlog up; without a format a terminal gets lines for people, anything else those for machines."""
    if log_format is None:
        log_format = "console" if sys.stderr.isatty() else "json"
    render = _for_machines(worker_id) if log_format == "json" else _for_people(worker_id)
    writer = Writer(sys.stderr.buffer, render)
    atexit.register(writer.flush)
    structlog.configure(
        processors=[lambda _logger, method, line: ((method, datetime.now(UTC), line), {})],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=True,
    )
    # What a server tells of each request and socket has its path, and so the id of a session, which is a key to it.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").addFilter(lambda record: "WebSocket %s" not in str(record.msg))
    if log_format == "json":
        _take_in(writer)


def flush() -> None:
    """Write what waits: before a worker ends."""
    writer = structlog.get_config()["logger_factory"]()
    if isinstance(writer, Writer):
        writer.flush()


def _head(worker_id: str, method: str, now: datetime, line: Fields) -> Fields:
    """The line with when, how bad, what and where before all else."""
    at = now.isoformat(timespec="microseconds")[:-6]
    level = "error" if method == "exception" else method
    return {"timestamp": f"{at}Z", "level": level, "event": line.pop("event"), "worker": worker_id, **line}


def _for_people(worker_id: str) -> Render:
    plain = structlog.dev.plain_traceback
    console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)

    def render(method: str, now: datetime, line: Fields) -> bytes:
        shown = {name: _visible(value) if isinstance(value, str) else value for name, value in line.items()}
        return console(None, method, _head(worker_id, method, now, shown)).encode(errors="backslashreplace")

    return render


def _visible(text: str) -> str:
    """What a client named, in signs that a terminal shows and does not obey."""
    return text if text.isprintable() else "".join(one if one.isprintable() or one == "\n" else "�" for one in text)


def _for_machines(worker_id: str) -> Render:
    """Tracebacks go without local variables, which hold what clients sent."""
    frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    with_exception = structlog.processors.ExceptionRenderer(frames)

    def render(method: str, now: datetime, line: Fields) -> bytes:
        fields = with_exception(None, method, _head(worker_id, method, now, line))
        try:
            return orjson.dumps(fields, default=repr)
        except TypeError:  # text that is not Unicode
            return json.dumps(fields, default=repr).encode()

    return render


class _Handler(logging.Handler):
    """Takes what is logged by standard means."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Write it."""
        line: Fields = {"event": record.getMessage(), "logger": record.name}
        if record.exc_info:
            line["exc_info"] = record.exc_info
        method = "warning" if record.levelno >= logging.WARNING else "info"
        now = datetime.fromtimestamp(record.created, UTC)
        getattr(self._writer, method)(record.levelname.lower(), now, line)


def _take_in(writer: Writer) -> None:
    """Have what the server and libraries log by standard means be JSON as well."""
    server, root = logging.getLogger("uvicorn"), logging.getLogger()
    if server.handlers:
        server.handlers = [_Handler(writer)]
    if not root.handlers:
        root.addHandler(_Handler(writer))
