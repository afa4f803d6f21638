"""The program: a clean run, what it says, what it refuses, and what is left when it is stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.journal import read
from chaos.load import KINDS
from chaos.run import TRIES_AGAIN
from tests.chaos.program import ROOT, chaos
from tests.processes import processes_with

SHORT = ("--duration", "28", "--faults", "kill,cut,balancer-restart,redis-restart", "--sessions", "16")


def test_a_clean_run_hits_with_every_fault_and_finds_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    done = chaos(*SHORT, "--json", "--keep", str(kept), tmp=tmp_path, CHAOS_TEST_MARK=tmp_path.name)
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert (report["schema_version"], report["command"], report["passed"]) == (1, "chaos", True)
    assert (report["violations"], report["errors"], report["missed"], report["trouble"]) == ([], [], [], [])
    assert report["steps"] > 100
    assert [fault["kind"] for fault in report["faults"]] == ["kill", "redis-restart", "cut", "balancer-restart"]
    assert all(fault["hit"] >= 1 and fault["times"] >= 1 for fault in report["faults"])
    assert report["pauses"]["worst_s"] >= report["pauses"]["p99_s"] >= report["pauses"]["p50_s"] > 0
    assert json.loads((kept / "report.json").read_text()) == report
    journals = [read(path) for path in sorted((kept / "journals").iterdir())]
    assert {journal.kind for journal in journals} == set(KINDS)
    assert sum(e.what == "answer" and "step" in e.fields for j in journals for e in j.entries) == report["steps"]
    assert {path.name for path in tmp_path.iterdir()} == {"kept"}
    assert processes_with(f"CHAOS_TEST_MARK={tmp_path.name}") == []


def test_the_table_names_the_seed_and_the_verdict_and_the_schedule_comes_first(tmp_path: Path) -> None:
    done = chaos("--duration", "12", "--faults", "delay", "--sessions", "8", "--seed", "5", tmp=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "delay" in done.stderr.splitlines()[1]
    for text in ("Faults of seed 5", "delay", "p99", "errors at our client", "0 violations in"):
        assert text in done.stdout


def test_a_fault_that_hits_nothing_however_often_it_is_tried_fails_the_run(tmp_path: Path) -> None:
    """One client that steps once in minutes has nothing in flight when a worker is killed."""
    done = chaos(
        *("--duration", "10.5", "--faults", "kill", "--sessions", "1", "--clients", "ours-ws", "--rate", "0.001"),
        "--json",
        tmp=tmp_path,
    )
    report = json.loads(done.stdout)
    assert (done.returncode, report["missed"], report["passed"]) == (1, ["kill"], False)
    assert report["faults"][0]["times"] == 1 + TRIES_AGAIN


IN_THE_BACKGROUND = ("sh", "-c", "trap '' INT; exec \"$@\"", "sh")
"""Without Ctrl-C, as a shell starts what a script leaves in the background."""


@pytest.mark.parametrize(
    ("ending", "start"),
    [(signal.SIGINT, ()), (signal.SIGTERM, ()), (signal.SIGINT, IN_THE_BACKGROUND)],
    ids=["Ctrl-C", "SIGTERM", "in the background"],
)
def test_stopped_it_leaves_no_process_and_no_file(
    ending: signal.Signals, start: tuple[str, ...], tmp_path: Path
) -> None:
    """A worker is stopped at that moment (SIGSTOP): it goes too."""
    run = subprocess.Popen(
        [*start, sys.executable, "-m", "chaos", "--duration", "600", "--faults", "pause,kill", "--sessions", "8"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path), "CHAOS_TEST_MARK": tmp_path.name},
    )
    assert run.stderr is not None
    try:
        for line in run.stderr:
            if "kill w" in line and "over" in line:
                break
        assert processes_with(f"CHAOS_TEST_MARK={tmp_path.name}")
        run.send_signal(ending)
        _, said = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 130, said
    assert "nothing is left running" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert processes_with(f"CHAOS_TEST_MARK={tmp_path.name}") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--duration", "5"), "need --duration"),
        (("--duration", "x"), "invalid float"),
        (("--duration", "-1"), "above 0"),
        (("--workers", "0"), "above 0"),
        (("--sessions", "0"), "above 0"),
        (("--rate", "0"), "above 0"),
        (("--faults", "bogus"), "'bogus' is not one of kill, pause"),
        (("--faults", ""), "is not one of"),
        (("--clients", "none"), "'none' is not one of ours-ws"),
        (("--compose", "--faults", "failover"), "is not one of kill, pause, roll, redis-restart, cut, balancer"),
        (("--compose", "--mutant", "lost-step"), "cannot go with --compose"),
        (("--mutant", "bogus"), "invalid choice"),
        (("--bogus",), "unrecognized"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_exits_with_2_and_says_what_is_allowed(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = chaos(*arguments, tmp=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["redis-server", "haproxy"])
def test_what_is_missing_is_named_with_how_to_get_it(missing: str, tmp_path: Path) -> None:
    found = tmp_path / "bin"
    found.mkdir()
    for program in {"redis-server", "haproxy"} - {missing}:
        (found / program).symlink_to(str(shutil.which(program)))
    done = chaos(tmp=tmp_path, PATH=str(found))
    assert done.returncode == 2
    assert f"apt-get install {missing}" in done.stderr


def test_compose_without_docker_says_so(tmp_path: Path) -> None:
    done = chaos("--compose", tmp=tmp_path, PATH=str(tmp_path))
    assert (done.returncode, "needs docker" in done.stderr) == (2, True)


def test_a_folder_that_holds_something_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    done = chaos("--keep", str(tmp_path), tmp=tmp_path)
    assert (done.returncode, "not empty" in done.stderr) == (2, True)


def test_a_pool_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    """A haproxy that does not start."""
    found = tmp_path / "bin"
    found.mkdir()
    (found / "redis-server").symlink_to(str(shutil.which("redis-server")))
    haproxy = found / "haproxy"
    haproxy.write_text("#!/bin/sh\necho broken on purpose\nexit 1\n")
    haproxy.chmod(0o755)
    done = chaos(tmp=tmp_path, PATH=f"{found}:/bin:/usr/bin", CHAOS_TEST_MARK=tmp_path.name)
    assert done.returncode == 2
    assert "broken on purpose" in done.stderr
    assert processes_with(f"CHAOS_TEST_MARK={tmp_path.name}") == []
