"""Workers whose commit script is broken on purpose: what the checker must catch.

    python -m chaos.mutants NAME serve ...     `metagame serve`, with the script's text replaced

Only the text that Redis runs differs. Each replacement must find what it replaces, so that a mutant of a
script that has moved on is an error and not a pass.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from hashlib import sha1

_SET = "redis.call('SET', key, head .."
_NOW_AND_THEN = "generation:byte(16) % 8 == 0"
"""One commit in eight: the last byte of a generation is random."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is wrong with it, and the text that makes it so."""

    what: str
    old: str
    new: str


MUTANTS = {
    "lost-step": Mutant(
        "a step is acknowledged and, one time in eight, not written",
        _SET,
        f"if {_NOW_AND_THEN} then return {{'committed'}} end\n{_SET}",
    ),
    "repeated-step": Mutant(
        "remembered request ids are not looked at, so that a commit sent again counts again",
        "if entry ~= '' then\n  local id",
        "if false then\n  local id",
    ),
    "swapped-episode": Mutant(
        "one time in eight another session's body is written",
        _SET,
        "local other = redis.call('GET', 'metagame:mutant')\n"
        "redis.call('SET', 'metagame:mutant', body, 'PX', ttl_ms)\n"
        f"if other and {_NOW_AND_THEN} then body = other end\n{_SET}",
    ),
    "stale-overwrite": Mutant(
        "generations are not compared, so that a commit overwrites one it never saw",
        "if sub(record, 32, 47) ~= expected then",
        "if false then",
    ),
}


def mutated(source: str, mutant: Mutant) -> str:
    """The script with the mutant's text; raises ValueError where the text to replace is not there once."""
    if source.count(mutant.old) != 1:
        message = f"commit.lua holds {mutant.old!r} {source.count(mutant.old)} times: the mutant must be written anew"
        raise ValueError(message)
    return source.replace(mutant.old, mutant.new)


def install(name: str) -> None:
    """Have this process's commits run the mutant."""
    scripts = importlib.import_module("services.store.scripts")
    original = scripts._COMMIT  # noqa: SLF001 - nobody else may ever replace a script
    source = mutated(original.source.decode(), MUTANTS[name]).encode()
    changed = scripts.Script(source, sha1(source, usedforsecurity=False).hexdigest())
    if changed.sha == original.sha:
        message = f"the mutant {name} changes nothing"
        raise ValueError(message)
    scripts._COMMIT = changed  # type: ignore[attr-defined]  # noqa: SLF001 - imported by name


def main() -> None:
    """Install the mutant, and go on as `metagame` with the other arguments."""
    name, *arguments = sys.argv[1:]
    install(name)
    importlib.import_module("metagame.cli").main(arguments)


if __name__ == "__main__":
    main()
