"""A worker's counts: 64-bit cells, which cost some 70 ns to raise, so that each step can be counted.

One thread counts, the event loop's. A meter is handed to whoever counts; there is none of the process, so that
two apps in one process do not mix. Under a supervisor of several workers the cells are in a file (shared.py).
"""

from __future__ import annotations

import os
import secrets
import tempfile
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic_ns
from types import TracebackType
from typing import Self

from starlette.exceptions import HTTPException

from metagame.errors import TABLE, MetaGameError, outward

from .layout import (
    BUG,
    CELLS,
    CPU,
    DURATIONS_NS,
    ERRORS,
    NANO,
    REASONS,
    REQUESTS,
    RESIDENT_BYTES,
    SUM,
    Family,
)
from .shared import Folder, Totals, untouched

FOLDER_VARIABLE = "_METAGAME_METER_FOLDER"
"""From the supervisor to its workers; no setting, so it has not their prefix."""
_STATM = Path("/proc/self/statm")


class Meter:
    """One worker's counts; `cells` by the layout's numbers."""

    __slots__ = ("_folder", "cells", "worker_id")

    def __init__(self, folder: Path | None = None) -> None:
        self.worker_id = secrets.token_hex(4)
        """Eight hexadecimal digits, in the log and in what the pool says of itself."""
        self._folder = None if folder is None else Folder(folder)
        self.cells: memoryview = (
            memoryview(bytearray(8 * CELLS)).cast("Q") if self._folder is None else self._folder.join(self.worker_id)
        )

    def count(self, family: Family, *labels: str, by: int = 1) -> None:
        """Raise a counter, or move a gauge by a number that may be negative."""
        self.cells[family.at(*labels)] += by

    def set(self, family: Family, value: int, *labels: str) -> None:
        """Set a gauge."""
        self.cells[family.at(*labels)] = value

    def took(self, first: int, began_ns: int) -> None:
        """Count a duration, from `monotonic_ns` until now, in the histogram whose cells begin there."""
        cells, took_ns = self.cells, monotonic_ns() - began_ns
        cells[first + bisect_left(DURATIONS_NS, took_ns)] += 1
        cells[first + SUM] += took_ns

    def failed(self, surface: str, operation: str, error: BaseException) -> None:
        """Count an error that a request is answered with."""
        code, reason = BUG
        if isinstance(error, MetaGameError) and any(kind in TABLE for kind in type(error).__mro__):
            row = outward(error)
            code, reason = row.code, row.reason
        self.count(ERRORS, surface, operation, code)
        self.count(REASONS, code, reason)

    def timed(self, surface: str, operation: str, began_ns: int = 0) -> Timed:
        """A block that carries out a request: it is counted, and so is the error that it raises."""
        return Timed(self, surface, operation, began_ns or monotonic_ns())

    def look_at_process(self) -> None:
        """Take note of what the process has used; called every now and then."""
        times = os.times()
        self.cells[CPU.first] = round((times.user + times.system) * NANO)
        if _STATM.exists():
            self.cells[RESIDENT_BYTES.first] = int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def totals(self) -> Totals:
        """The counts of all workers under this one's supervisor, or of this one alone."""
        return Totals(list(self.cells), 1) if self._folder is None else self._folder.totals()


class Timed:
    """A request that is being carried out; `operation` may be set as soon as it is known."""

    __slots__ = ("_began_ns", "_meter", "_surface", "operation")

    def __init__(self, meter: Meter, surface: str, operation: str, began_ns: int) -> None:
        self._meter = meter
        self._surface = surface
        self._began_ns = began_ns
        self.operation = operation

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._meter.took(REQUESTS.series[self._surface, self.operation], self._began_ns)
        # One that is cancelled has no answer, and what routing refuses is no request of an operation.
        if isinstance(error, Exception) and not isinstance(error, HTTPException):
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Count the error that it is answered with, where that is not raised out of the block."""
        self._meter.failed(self._surface, self.operation, error)


def open_meter() -> Meter:
    """The meter of a worker: in its supervisor's folder, if it has one. Raises OSError where it cannot be there."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Meter(Path(folder) if folder else None)


@contextmanager
def shared_folder() -> Iterator[None]:
    """A folder for the workers that are started in the block; raises OSError where none can be made."""
    with tempfile.TemporaryDirectory(prefix="metagame-meter-", ignore_cleanup_errors=True) as folder:
        os.environ[FOLDER_VARIABLE] = folder
        try:
            with untouched(Path(folder)):
                yield
        finally:
            del os.environ[FOLDER_VARIABLE]
