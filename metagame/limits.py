"""What the system allows a process, taken in full."""

from __future__ import annotations

import contextlib
import sys


def allow_open_files() -> None:
    """Have as many files open, and so sockets, as this process may: many systems give it fewer at first."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on every system

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # macOS says unlimited, and refuses it
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
