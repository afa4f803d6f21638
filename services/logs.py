"""Log lines: for people on a terminal, or one JSON object a line for machines.

One line per event in a session's or worker's life, none per step; a session is named by its
hash, and a message's content is never logged, in tracebacks neither.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import structlog
import structlog.tracebacks


def configure(log_format: Literal["console", "json"]) -> None:
    """Set structlog up; standard logging is left to the server that writes there."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *([_tracebacks()] if log_format == "json" else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _tracebacks() -> Any:
    """Tracebacks without local variables, which hold what clients sent."""
    return structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
