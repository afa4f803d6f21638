"""Mutants of the commit: they change what Redis runs, and nothing else; the program catches each."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from chaos.mutants import MUTANTS, mutated
from tests.chaos.program import chaos
from tests.redis_servers import RedisServer

COMMIT = (files("services.store") / "lua" / "commit.lua").read_text()
SMALL = ("--sessions", "6", "--rate", "6", "--workers", "2", "--json")
CAUGHT = {
    # Each commit may be one of the lost, and a socket's next step then stands where it stood.
    "lost-step": (("--duration", "6", "--faults", "none", "--clients", "stock-ws"), {"lost"}),
    # A cut answer is a commit that was carried out and is sent again.
    "repeated-step": (
        ("--duration", "30", "--faults", "cut", "--clients", "stock-ws", "--sessions", "24", "--rate", "100"),
        {"repeated"},
    ),
    # Over HTTP each step reads what the one before it wrote.
    "swapped-episode": (("--duration", "6", "--faults", "none", "--clients", "stock-http"), {"swapped"}),
    # Two clients of one session step at the same instant.
    "stale-overwrite": (("--duration", "6", "--faults", "none", "--clients", "shared"), {"lost"}),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, tmp_path: Path) -> None:
    options, kinds = CAUGHT[name]
    done = chaos("--mutant", name, *SMALL, *options, tmp=tmp_path)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    found = {violation["kind"] for violation in report["violations"]}
    assert kinds <= found
    assert all(violation["lines"] for violation in report["violations"])
    assert (report["mutant"], report["passed"], report["trouble"], report["missed"]) == (name, False, [], [])


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutants_script_differs_and_runs(name: str, shared_redis: RedisServer) -> None:
    source = mutated(COMMIT, MUTANTS[name])
    assert source != COMMIT
    with shared_redis.client() as client:
        assert client.eval(source, 1, f"no session of {name}", *[""] * 7) == [b"gone"]


def test_a_mutant_of_a_script_that_has_moved_on_is_an_error() -> None:
    with pytest.raises(ValueError, match="written anew"):
        mutated("return {'committed'}", MUTANTS["lost-step"])
