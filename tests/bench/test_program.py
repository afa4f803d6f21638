"""`python -m bench`: which targets, what is judged and how, and what is printed, kept and drawn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

import bench.__main__ as program
from bench import plots
from bench.catalogue import TARGETS
from bench.contestants import pinned, redis
from bench.report import Outcome
from bench.targets import Check, Options, Result, Series, Table, Target, Unmeasured, median, ratio
from metagame.cli import processes
from tests.survival.stock import interpreter

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def target(name: str, *values: float, limit: float = 1.0) -> Target:
    """One that measures what it is told to."""

    def measure(options: Options) -> Result:
        assert options.folder.is_dir()
        checks = tuple(Check(f"check {number}", value, limit) for number, value in enumerate(values))
        series = Series(f"cost-{name}", "ours", "sessions", "µs", ((1, 2), (1000, 3)))
        return Result(checks, Table(("µs",), (("a row", ("17",)),)), ("a note [x]",), (series,), {"figure": 5})

    return Target(name, f"title {name}", measure, seconds=1, quick=True)


def failing(name: str) -> Target:
    def measure(options: Options) -> Result:
        message = "no step came back"
        raise Unmeasured(message)

    return Target(name, "fails", measure, seconds=1)


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have `main` know these targets, and take this Python for the reference's."""

    def known(*targets: Target) -> None:
        monkeypatch.setattr(program, "TARGETS", targets)
        monkeypatch.setenv("METAGAME_TEST_OPENENV_PYTHON", sys.executable)

    return known


def test_the_targets_are_those_of_the_table_in_its_order() -> None:
    assert [one.id for one in TARGETS] == ["A", "B", "C", "D", "E", "E2", "F", "G", "H", "I", "J"]
    assert "".join(one.id for one in program.choose([], quick=True)) == "ABCDH"
    assert program.choose([], quick=False) == list(TARGETS)


def test_targets_are_chosen_by_letter_in_either_case_and_their_own_order() -> None:
    assert [one.id for one in program.choose(["j", "E2", "a"], quick=False)] == ["A", "E2", "J"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("Z",), "no target Z; there are A B C D E E2 F G H I J"),
        (("--quick", "F"), "--quick has no F"),
        (("A", "--rounds", "0"), "--rounds must be at least 1"),
        (("A", "--json", "no/such/folder/out.json"), "there is no such folder"),
        (("A", "--json", "."), "that is a folder"),
        (("A", "--plots", "README.md"), "that is a file"),
        (("A", "--reference-python", "no/python"), "no Python at no/python"),
        (("--bogus",), "--bogus"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(arguments: tuple[str, ...], says: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_without_redis_it_says_how_to_get_it(tmp_path: Path) -> None:
    done = run("A", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "apt-get install redis-server" in done.stderr


def test_without_matplotlib_plots_are_refused_before_anything_is_measured(
    catalogue: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    catalogue(target("A", 0.5))
    monkeypatch.setattr(plots, "can_plot", lambda: False)
    assert program.main(["--plots", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert "make bench-setup" in shown.err
    assert shown.out == ""


def test_a_reference_environment_that_cannot_be_made_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METAGAME_TEST_OPENENV_PYTHON", raising=False)
    monkeypatch.setattr(program, "REFERENCE", ROOT / ".venvs" / "no-such-rule")
    with pytest.raises(program.Refused, match="that failed; --reference-python names"):
        program.reference_python(None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(program.Refused, match="make, which is not here"):
        program.reference_python(None)


def test_the_list_names_every_target() -> None:
    done = run("--list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [one.id for one in TARGETS]


def test_what_was_measured_before_an_interruption_is_kept(
    catalogue: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupted(_: object) -> Result:
        raise KeyboardInterrupt

    catalogue(target("A", 0.5), Target("B", "interrupted", interrupted, seconds=1))
    kept = tmp_path / "out.json"
    assert program.main(["--json", str(kept)]) == 130
    assert "Stopped" in capsys.readouterr().err
    assert [one["id"] for one in json.loads(kept.read_text())["targets"]] == ["A"]


def test_every_target_reached_exits_with_0_and_keeps_everything(
    catalogue: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    catalogue(target("A", 0.5), target("B", 1.0, 0.1))
    kept, drawn = tmp_path / "out.json", tmp_path / "plots"
    assert program.main(["--json", str(kept), "--plots", str(drawn), "--rounds", "4"]) == 0
    shown = capsys.readouterr().out
    for text in (
        "A. title A",
        "check 0: 0.5 (limit 1): reached",
        "a row",
        "17",
        "a note [x]",
        "every one of them reached",
    ):
        assert text in shown
    everything = json.loads(kept.read_text())
    assert (everything["schema_version"], everything["rounds"], everything["reached"]) == (2, 4, True)
    assert everything["machine"].keys() >= {"processor", "cores", "memory_gb", "system"}
    assert everything["versions"].keys() >= {"metagame", "revision", "python", "redis-server", "openenv", "uvicorn"}
    first = everything["targets"][0]
    assert (first["id"], first["reached"], first["figures"]) == ("A", True, {"figure": 5})
    assert first["checks"][0].items() >= {"value": 0.5, "limit": 1.0, "limit_in_this_run": 1.0, "reached": True}.items()
    assert first["series"][0]["points"] == [[1, 2], [1000, 3]]
    assert sorted(path.name for path in drawn.iterdir()) == ["cost-A.svg", "cost-B.svg"]
    assert "<svg" in (drawn / "cost-A.svg").read_text()


def test_one_check_above_its_limit_exits_with_1(catalogue: Any, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue(target("A", 0.5), target("B", 0.1, 1.01))
    assert program.main([]) == 1
    shown = capsys.readouterr().out
    assert "check 1: 1.01 (limit 1): NOT reached" in shown
    assert "not reached: B" in shown


def test_a_target_that_cannot_be_measured_is_not_reached_and_the_others_are_measured(
    catalogue: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue(failing("A"), target("B", 0.5))
    assert program.main(["--json", "-"]) == 1
    shown = capsys.readouterr()
    assert "no step came back" in shown.err
    first, second = json.loads(shown.out)["targets"]
    assert (first["reached"], first["failure"]) == (False, "Unmeasured: no step came back")
    assert second["reached"] is True


def test_limits_of_a_quick_run_are_twice_as_wide_and_it_says_so(
    catalogue: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue(target("A", 1.9))
    assert program.main(["--quick"]) == 0
    shown = capsys.readouterr().out
    assert "limits are 2 times as wide" in shown
    assert "(limit 2)" in shown
    assert program.main([]) == 1
    catalogue(target("A", 2.1))
    assert program.main(["--quick"]) == 1


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians() -> None:
    check = ratio("r", [1, 20, 3], [10, 100, 10], limit=0.2, stretch=0.1)
    assert (check.value, check.rounds) == (0.2, (0.1, 0.2, 0.3))
    assert check.reached(quick=False)
    assert not replace(check, value=0.21).reached(quick=False)
    assert median("m", [5, 1, 9], limit=5, unit="ms").value == 5
    with pytest.raises(ValueError, match="zip"):
        ratio("r", [1, 2], [1], limit=1)


def test_a_target_with_several_checks_needs_all_of_them() -> None:
    result = Result((Check("a", 1, 1), Check("b", 2, 1)))
    assert not Outcome(TARGETS[0], quick=False, result=result).reached
    assert Outcome(TARGETS[0], quick=True, result=result).reached
    assert not Outcome(TARGETS[0], quick=True, failure="no").reached


def test_the_redis_that_is_measured_is_configured_as_deployed(tmp_path: Path) -> None:
    with redis(tmp_path, appendfsync="everysec") as started, Redis.from_url(started.url) as client:
        found: Any = client.config_get("*")
    assert (found["appendonly"], found["appendfsync"], found["save"]) == ("yes", "everysec", "")
    assert found["maxmemory-policy"] == "noeviction"
    assert found["dir"].startswith(str(tmp_path.resolve()))


def test_one_target_is_measured_against_the_reference(tmp_path: Path) -> None:
    kept = tmp_path / "out.json"
    python = interpreter("METAGAME_TEST_OPENENV_PYTHON", ".venvs/openenv-0.10")
    done = run("C", "--quick", "--rounds", "2", "--json", str(kept), "--reference-python", python)
    everything = json.loads(kept.read_text())
    [one] = everything["targets"]
    assert "failure" not in one, one
    assert done.returncode == (0 if one["reached"] else 1)
    assert everything["versions"]["openenv"] == "0.10.0"
    theirs, ours, *others = one["figures"]["contestants"]
    assert [len(contestant["rounds"]) for contestant in (theirs, ours, *others)] == [2, 2, 2, 2]
    assert [contestant["pinned"] for contestant in (theirs, ours, *others)] == [False, False, True, True]
    assert (theirs["request_ids"], ours["request_ids"]) == (False, True)
    assert all(sample["worker_us"] > 0 and sample["redis_us"] > 0 for sample in ours["rounds"])
    assert one["checks"][0]["rounds"] == pytest.approx(
        [our["p50_ms"] / their["p50_ms"] for our, their in zip(ours["rounds"], theirs["rounds"], strict=True)], rel=0.01
    )


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process")
def test_a_pinned_worker_has_a_core_of_its_own_and_gives_it_back(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    with processes.worker("worker", tmp_path) as worker:
        pid = worker.process.pid
        with pinned([pid], []):
            [core] = os.sched_getaffinity(pid)
            assert (core in os.sched_getaffinity(0)) == (len(before) == 1)
        assert (os.sched_getaffinity(pid), os.sched_getaffinity(0)) == (before, before)
