"""The counts of several workers, each a process that dies when it is told."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from services.meter import Meter
from services.meter.layout import ATTACHED, CELLS, COMMITS
from services.meter.meter import FOLDER_VARIABLE, open_meter, shared_folder
from services.meter.shared import FOLDED, LOCK, SUFFIX, Folder, _locked
from tests.metrics.scraped import scrape
from tests.servers import ROOT, run_server

PROGRAM = """
import sys
from services.meter.layout import ATTACHED, COMMITS
from services.meter.meter import open_meter
meter = open_meter()
for line in sys.stdin:
    for _ in range(int(line)):
        meter.count(COMMITS, "step", "committed")
        meter.count(ATTACHED, "named")
    print("counted", flush=True)
"""


class Worker:
    """A process that counts steps and attached sessions, as many as it is told."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env=os.environ | {FOLDER_VARIABLE: str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def count(self, number: int) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(number, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "counted\n"

    def die(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def worker(folder: Path, steps: int) -> Iterator[Worker]:
    one = Worker(folder)
    try:
        one.count(steps)
        yield one
    finally:
        one.die()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Worker, Worker]]:
    with ExitStack() as stack:
        yield stack.enter_context(worker(tmp_path, 3)), stack.enter_context(worker(tmp_path, 4))


def told(folder: Path) -> tuple[int, int, int]:
    """Steps, attached sessions and living workers, of all of them together."""
    totals = Folder(folder).totals()
    return COMMITS.total(totals.cells), ATTACHED.total(totals.cells), totals.living


def files(folder: Path) -> int:
    return len(list(folder.glob(f"*{SUFFIX}")))


def test_any_worker_answers_for_all(tmp_path: Path, two: tuple[Worker, Worker]) -> None:
    meter = Meter(tmp_path)
    meter.count(COMMITS, "step", "replayed")
    totals = meter.totals()
    assert COMMITS.total(totals.cells, outcome="committed") == 7
    assert COMMITS.total(totals.cells) == 8
    assert totals.living == 3


def test_a_dead_workers_counters_stay_and_its_gauges_go(tmp_path: Path, two: tuple[Worker, Worker]) -> None:
    first, second = two
    assert told(tmp_path) == (7, 7, 2)
    first.die()
    assert told(tmp_path) == (7, 4, 1)
    second.count(2)
    assert told(tmp_path) == (9, 6, 1)
    second.die()
    assert told(tmp_path) == (9, 0, 0)


def test_the_dead_are_folded_into_one_file_when_another_starts(tmp_path: Path, two: tuple[Worker, Worker]) -> None:
    first, second = two
    first.die()
    with worker(tmp_path, 10) as third:
        assert files(tmp_path) == 2
        assert told(tmp_path) == (17, 14, 2)
        second.die()
        third.die()
        with worker(tmp_path, 100):
            assert files(tmp_path) == 1
            assert told(tmp_path) == (117, 100, 1)


def test_a_folding_that_was_cut_off_counts_nothing_twice(tmp_path: Path, two: tuple[Worker, Worker]) -> None:
    """The sums are there, and the files that are in them too."""
    first, second = two
    first.die()
    [dead] = [path for path in tmp_path.glob(f"*{SUFFIX}") if _is_free(path)]
    kept = dead.read_bytes()
    Folder(tmp_path).fold()
    assert not dead.exists()
    dead.write_bytes(kept)
    assert told(tmp_path) == (7, 4, 1)
    second.die()
    Folder(tmp_path).fold()
    assert files(tmp_path) == 0
    assert told(tmp_path) == (7, 0, 0)


def test_who_folds_holds_up_nobody(tmp_path: Path, two: tuple[Worker, Worker]) -> None:
    """As if a worker had been stopped in the middle of it."""
    first, _ = two
    first.die()
    with _locked(tmp_path / LOCK) as held:
        assert held
        assert told(tmp_path) == (7, 4, 1)
        with worker(tmp_path, 1):
            assert told(tmp_path) == (8, 5, 2)
            assert files(tmp_path) == 3


def test_a_reader_that_is_overtaken_by_a_folding_reads_again(
    tmp_path: Path, two: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    first.die()
    second.die()
    folder, folds = Folder(tmp_path), iter([True])
    listed = Folder._files

    def fold_first(self: Folder, folded: frozenset[str]) -> list[Path]:
        if self is folder and next(folds, False):
            Folder(tmp_path).fold()  # between the folded sums and the list of files
        return listed(self, folded)

    monkeypatch.setattr(Folder, "_files", fold_first)
    assert COMMITS.total(folder.totals().cells) == 7


def test_files_of_another_releases_layout_count_as_nothing(tmp_path: Path) -> None:
    (tmp_path / f"older{SUFFIX}").write_bytes(bytes(16 + 8 * CELLS))
    (tmp_path / f"short{SUFFIX}").write_bytes(b"")
    (tmp_path / FOLDED).write_bytes(bytes(16 + 8 * CELLS))
    with worker(tmp_path, 5):
        assert told(tmp_path) == (5, 5, 1)
        assert files(tmp_path) == 1


def test_the_folder_is_the_workers_of_one_supervisor_and_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    assert open_meter().totals().living == 1
    with shared_folder():
        folder = Path(os.environ[FOLDER_VARIABLE])
        meter = open_meter()
        with worker(folder, 2):
            totals = meter.totals()
            assert (COMMITS.total(totals.cells), totals.living) == (2, 2)
    assert not folder.exists()
    assert FOLDER_VARIABLE not in os.environ


def test_a_worker_makes_the_folder_anew_where_somebody_tidied_up(tmp_path: Path) -> None:
    with worker(tmp_path / "gone", 2):
        assert told(tmp_path / "gone") == (2, 2, 1)


def test_the_folder_is_locked_against_those_who_tidy_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with shared_folder():
        folder = os.open(os.environ[FOLDER_VARIABLE], os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(folder)


def test_a_worker_that_cannot_share_serves_all_the_same_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with run_server(**{FOLDER_VARIABLE: str(tmp_path / "file" / "folder")}) as server:
        assert "this worker's counts are in no other's metrics" in server.log
        assert scrape(server.url).value("metagame_workers", state="serving") == 1


def test_where_no_folder_can_be_made_several_workers_do_not_start(tmp_path: Path) -> None:
    environment = os.environ | {
        "METAGAME_WORKERS": "2",
        "METAGAME_REDIS_URL": "redis://127.0.0.1:1",
        "METAGAME_PORT": "0",
    }
    nowhere = "import tempfile; tempfile.tempdir = '/nowhere'; from services.app import main; raise SystemExit(main())"
    command = [sys.executable, "-c", nowhere]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "TMPDIR" in done.stderr


def _is_free(path: Path) -> bool:
    with _locked(path, create=False) as free:
        return free
