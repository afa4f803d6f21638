"""Workers of other releases: the same server, but for the record formats that it writes and reads.

Run as a module it is such a server; the variables `RELEASE_WRITES` and `RELEASE_READS` say which.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from metagame.core import codec
from tests.survival.workers import Worker, running


@dataclass(frozen=True, slots=True)
class Release:
    """The format a release writes, and all that it reads, a digit each."""

    writes: str
    reads: str


PREVIOUS = Release("1", "1")
THIS = Release(codec.WRITES.decode(), b"".join(codec.READS).decode())
NEXT = Release("2", "12")
AHEAD = Release("3", "123")
"""Two releases on: it writes what this one cannot read."""


class ReleasedWorker(Worker):
    """A worker of one release after another, on one port."""

    module = __name__

    def __init__(self, release: Release, **env: str) -> None:
        super().__init__(**env)
        self.release = release

    def start(self, *, until: str = "/ready") -> None:
        """Start a server of the release that it has now."""
        self._env |= {"RELEASE_WRITES": self.release.writes, "RELEASE_READS": self.release.reads}
        super().start(until=until)


async def replace(worker: ReleasedWorker, release: Release) -> None:
    """Have the worker, which has left or not, come back as this release."""
    worker.release = release
    worker.end()
    await running(worker)


def main() -> int:
    """Serve as the release that the variables describe."""
    from services.app import main as serve  # noqa: PLC0415 - after the formats are set, whenever they are read

    codec.WRITES = os.environ["RELEASE_WRITES"].encode()
    codec.READS = tuple(digit.encode() for digit in os.environ["RELEASE_READS"])
    return serve()


if __name__ == "__main__":
    sys.exit(main())
