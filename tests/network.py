"""Browsers and containers take turns: Chromium gives up what it loads when a network interface comes or goes.

Each container's interface does. So tests of containers hold a lock that they share, and tests in a browser one that
they do not, from the first of their kind to the last that follows it, in all processes of the tests on this machine.
It is taken before a test's time counts.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

import pytest

LOCK = Path(tempfile.gettempdir(), f"metagame-tests-{os.getuid()}.lock")
IN_A_BROWSER = {"test_docs.py", "test_root_path.py", "test_site.py"}
"""Beside all of `tests/web`."""


class Turn:
    """This process' hold on the network as it is."""

    def __init__(self) -> None:
        self._kind: int | None = None
        self._file: IO[str] | None = None

    def take(self, item: pytest.Item) -> None:
        """Have the lock of this test's kind; waits for tests of the other kind elsewhere."""
        kind = _kind(item)
        if kind == self._kind:
            return
        self.give()
        if kind is not None:
            self._file = LOCK.open("w")
            fcntl.flock(self._file, kind)
            self._kind = kind

    def give(self, following: pytest.Item | None = None) -> None:
        """Give it up, unless the test that follows is of the same kind."""
        if self._file is not None and (following is None or _kind(following) != self._kind):
            self._file.close()
            self._file = self._kind = None


def _kind(item: pytest.Item) -> int | None:
    if "docker_engine" in getattr(item, "fixturenames", ()):
        return fcntl.LOCK_SH
    if item.path.parent.name == "web" or item.path.name in IN_A_BROWSER:
        return fcntl.LOCK_EX
    return None
