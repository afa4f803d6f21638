"""What a shell is told when somebody presses Tab, and how it comes to ask."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from metagame.cli.checks import CHECKS
from tests.cli.typed import metagame


def completed(typed: str) -> list[str]:
    """What bash is offered for the last word."""
    count = typed.count(" ")
    done = metagame(_METAGAME_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=str(count))
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("metagame ", ["serve", "demo", "bench", "check", "sessions", "pool"]),
        ("metagame ses", ["sessions"]),
        ("metagame sessions ", ["list", "show", "watch", "end"]),
        ("metagame pool ", ["status", "watch"]),
        ("metagame check --sur", ["--survive"]),
        ("metagame check http://h --only res", [one.name for one in CHECKS if one.name.startswith("res")]),
    ],
)
def test_commands_options_and_names_of_checks_are_completed(typed: str, offered: list[str]) -> None:
    assert sorted(completed(typed)) == sorted(offered)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shells_script_is_shown(shell: str) -> None:
    done = metagame("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    assert "_METAGAME_COMPLETE" in done.stdout


def test_it_is_installed_into_the_home_of_whoever_asks(tmp_path: Path) -> None:
    done = metagame(
        "--install-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1", HOME=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert any("_METAGAME_COMPLETE" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_help_and_serve_load_neither_the_client_nor_what_draws() -> None:
    code = (
        "import sys; import metagame.cli.commands;"
        "print([name for name in ('pydantic', 'httpx', 'websockets', 'rich.table') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
