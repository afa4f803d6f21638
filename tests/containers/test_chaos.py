"""Chaos on containers: faults by docker's own commands on a pool of compose, and nothing left of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.chaos.program import chaos
from tests.containers import engine


@pytest.mark.usefixtures("image")
def test_containers_killed_paused_cut_off_and_restarted_lose_nothing(tmp_path: Path) -> None:
    done = chaos(
        *("--compose", "--workers", "2", "--sessions", "16", "--duration", "40"),
        *("--faults", "kill,pause,redis-restart,cut,balancer-restart", "--json"),
        tmp=tmp_path,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert (report["mode"], report["violations"], report["errors"], report["missed"]) == ("compose", [], [], [])
    assert all(fault["hit"] >= 1 for fault in report["faults"])
    project = re.search(r"compose project (\S+)", done.stderr)
    assert project is not None
    assert engine.docker("ps", "--all", "--quiet", "--filter", f"name={project[1]}") == ""
    assert engine.docker("volume", "ls", "--quiet", "--filter", f"name={project[1]}") == ""
