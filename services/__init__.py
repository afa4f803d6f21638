"""The server: what an operator runs. In the wheel this package is called `metagame_server`."""

import sys


def _import_structlog() -> None:
    """Structlog loads rich wherever it is installed, for tracebacks that we do not print: 4 MB of every worker."""
    spared = "rich" not in sys.modules
    if spared:
        sys.modules["rich"] = None  # type: ignore[assignment]  # what import takes for "there is none"
    try:
        import structlog  # noqa: F401, PLC0415 - imported for its own sake, and only now
    finally:
        if spared:
            del sys.modules["rich"]


_import_structlog()
