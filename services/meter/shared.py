"""The counts of all workers under one supervisor: a file for each, mapped, in a directory that they share.

A worker holds its file's lock as long as it lives, so a reader knows who does, whatever numbers processes get.
A dead worker's counts are folded into one file, at the next one's start, so that files do not pile up. Nobody
waits for anybody: a worker that is stopped in the middle of anything here holds up no other. A reader goes by
the number of foldings: if that changes while it reads, it reads again.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import add
from pathlib import Path

from .layout import CELLS, FINGERPRINT, GAUGES

SUFFIX = ".cells"
FOLDED, LOCK = "folded", "folding"
TRIES = 16
_HEADER = struct.Struct("=QQ")
"""The layout's fingerprint; in the folded file how often was folded, else 0."""
_SIZE = _HEADER.size + 8 * CELLS


@dataclass(frozen=True, slots=True)
class Totals:
    """The cells of all workers, summed: counters of the living and the dead, gauges of the living."""

    cells: list[int]
    living: int


class Folder:
    """The directory that workers share."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def join(self, worker_id: str) -> memoryview:
        """The cells of a new worker, which are its own until its process ends; raises OSError."""
        self._path.mkdir(mode=0o700, exist_ok=True)  # somebody may have tidied up
        self.fold()
        new = self._path / f"{worker_id}.new"
        mapped = _mapped_and_locked(new)
        new.replace(self._path / f"{worker_id}{SUFFIX}")
        return memoryview(mapped)[_HEADER.size :].cast("Q")

    def totals(self) -> Totals:
        """All workers' counts."""
        for _ in range(TRIES):
            folded = self._folded()
            cells, living = folded.cells, 0
            for path in self._files(folded.names):
                with contextlib.suppress(FileNotFoundError):
                    alive = _is_locked(path)
                    counts = _read(path)
                    living += alive
                    cells = _sum(cells, counts if alive else _without_gauges(counts))
            if self._folded().times == folded.times:
                break
        return Totals(cells, living)

    def fold(self) -> None:
        """Add the dead workers' counters to those folded before, unless somebody else does."""
        with _locked(self._path / LOCK) as held:
            if held:
                self._fold()

    def _fold(self) -> None:
        before = self._folded()
        for name in before.names:  # left by one that died here
            (self._path / name).unlink(missing_ok=True)
        dead = [path for path in self._files(before.names) if not _is_locked(path)]
        if not dead:
            return
        cells = before.cells
        for path in dead:
            cells = _sum(cells, _without_gauges(_read(path)))
        names = "\n".join(path.name for path in dead)
        new = self._path / f"{FOLDED}.new"
        new.write_bytes(_HEADER.pack(FINGERPRINT, before.times + 1) + array("Q", cells).tobytes() + names.encode())
        new.replace(self._path / FOLDED)
        for path in dead:
            path.unlink(missing_ok=True)

    def _files(self, folded: Iterable[str]) -> list[Path]:
        return [path for path in self._path.glob(f"*{SUFFIX}") if path.name not in folded]

    def _folded(self) -> _Folded:
        try:
            data = (self._path / FOLDED).read_bytes()
        except FileNotFoundError:
            return _Folded(0, [0] * CELLS, frozenset())
        fingerprint, times = _HEADER.unpack_from(data)
        names = frozenset(data[_SIZE:].decode().split("\n")) if fingerprint == FINGERPRINT else frozenset[str]()
        return _Folded(times, _cells(data), names)


@contextlib.contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Have what tidies up temporary folders leave this one alone: systemd-tmpfiles goes by a lock on it."""
    import fcntl  # noqa: PLC0415 - a system without it has one worker, who shares nothing

    locked = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(locked)


@dataclass(frozen=True, slots=True)
class _Folded:
    """What was folded: how often by now, the sums, and the files of the last time, which may still be there."""

    times: int
    cells: list[int]
    names: frozenset[str]


def _mapped_and_locked(path: Path) -> mmap.mmap:
    """A new file of empty cells; its lock goes with the process."""
    import fcntl  # noqa: PLC0415 - as above

    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    os.write(file, _HEADER.pack(FINGERPRINT, 0) + bytes(8 * CELLS))  # whole: a full disk is an error here, not later
    return mmap.mmap(file, _SIZE)  # `file` stays open, and is closed by nobody: it has the lock


def _is_locked(path: Path) -> bool:
    """Whether the file's worker lives."""
    with _locked(path, create=False) as free:
        return not free


@contextlib.contextmanager
def _locked(path: Path, *, create: bool = True) -> Iterator[bool]:
    """Whether the lock of the file was free; if so it is held in the block."""
    import fcntl  # noqa: PLC0415 - as above

    file = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(file)


def _read(path: Path) -> list[int]:
    return _cells(path.read_bytes())


def _cells(data: bytes) -> list[int]:
    """The cells in a file; all 0 where it is of another release's layout."""
    if len(data) < _SIZE or _HEADER.unpack_from(data)[0] != FINGERPRINT:
        return [0] * CELLS
    return array("Q", data[_HEADER.size : _SIZE]).tolist()


def _sum(one: list[int], other: list[int]) -> list[int]:
    return list(map(add, one, other))


def _without_gauges(cells: list[int]) -> list[int]:
    return cells[:GAUGES] + [0] * (CELLS - GAUGES)
