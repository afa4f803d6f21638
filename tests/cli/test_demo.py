"""The `metagame` command as somebody types it: real processes, exit codes, and what is left behind."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from metagame._version import __version__
from metagame.cli.processes import redis, worker
from tests.cli.typed import metagame
from tests.client.real_server import real_server
from tests.processes import processes_with

SMALL = ("--episodes", "8", "--steps", "20")


def test_the_demo_checks_every_answer_and_says_how_to_go_on(tmp_path: Path) -> None:
    done = metagame("demo", *SMALL, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    for text in (
        "160 of 160 steps",
        "Every answer checked",
        "steps/s",
        "p50",
        "p99",
        "errors",
        "metagame serve",
    ):
        assert text in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_of_80_columns_lines_end_between_words(tmp_path: Path) -> None:
    shown, terminal = pty.openpty()
    demo = subprocess.Popen(
        [sys.executable, "-m", "metagame", "demo", "--crash", "--episodes", "8", "--steps", "100"],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        env=os.environ | {"COLUMNS": "80", "TERM": "dumb", "TMPDIR": str(tmp_path)},
    )
    os.close(terminal)
    text = ""
    with contextlib.suppress(OSError):  # how a terminal ends
        while chunk := os.read(shown, 4096):
            text += chunk.decode(errors="replace")
    os.close(shown)
    demo.wait(30)
    assert demo.returncode == 0
    assert "Go on:" in text
    assert max(len(line.rpartition("\r")[2]) for line in text.replace("\r\n", "\n").split("\n")) <= 80


def test_one_episode_is_not_called_episodes() -> None:
    assert "1 episode of 1 step at once" in metagame("demo", "--episodes", "1", "--steps", "1").stdout


def test_json_is_one_object_and_nothing_else() -> None:
    done = metagame("demo", *SMALL, "--json")
    shown = json.loads(done.stdout)
    assert (shown["schema_version"], shown["passed"], shown["errors"]) == (1, True, [])
    assert (shown["episodes"], shown["steps"], shown["lost"], shown["repeated"]) == (8, 160, 0, 0)


def test_a_worker_killed_half_way_loses_and_repeats_nothing(tmp_path: Path) -> None:
    done = metagame("demo", "--crash", "--episodes", "16", "--steps", "100", "--json", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    shown = json.loads(done.stdout)
    assert (shown["steps"], shown["lost"], shown["repeated"], shown["errors"]) == (1600, 0, 0, [])
    assert 0 < shown["dropped"] == shown["resumed"]
    assert list(tmp_path.iterdir()) == []


def test_the_crash_demo_without_redis_says_how_to_get_it(tmp_path: Path) -> None:
    done = metagame("demo", "--crash", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "apt-get install redis-server" in done.stderr


IN_THE_BACKGROUND = ("sh", "-c", "trap '' INT; exec \"$@\"", "sh")
"""Without Ctrl-C, as a shell starts what a script leaves in the background."""


@pytest.mark.parametrize("start", [(), IN_THE_BACKGROUND], ids=["in front", "in the background"])
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=lambda ending: ending.name)
@pytest.mark.parametrize("crash", [(), ("--crash",)], ids=["one server", "two workers and a Redis"])
def test_a_stopped_demo_leaves_no_process_and_no_file(
    ending: signal.Signals, crash: tuple[str], start: tuple[str, ...], tmp_path: Path
) -> None:
    mark = f"DEMO_TEST_MARK={tmp_path.name}"
    demo = subprocess.Popen(
        [*start, sys.executable, "-u", "-m", "metagame", "demo", *crash, "--episodes", "64", "--steps", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path), "DEMO_TEST_MARK": tmp_path.name},
    )
    assert demo.stdout is not None
    try:
        assert any("steps at once" in line for line in demo.stdout)
        demo.send_signal(ending)
        _, said = demo.communicate(timeout=30)
    finally:
        demo.kill()
    assert demo.returncode == 130, said
    assert "nothing is left running" in said
    assert list(tmp_path.iterdir()) == []
    assert processes_with(mark) == []


def test_a_url_where_nobody_answers_exits_with_3() -> None:
    done = metagame("demo", "--url", "http://127.0.0.1:9", "--json")
    assert done.returncode == 3
    assert "No server answers at http://127.0.0.1:9" in done.stderr
    assert json.loads(done.stdout)["passed"] is False


def test_a_server_under_another_path_is_named_as_what_it_is() -> None:
    with real_server() as url:
        done = metagame("demo", "--url", f"{url}/foo")
    assert done.returncode == 3
    assert f"at {url}/foo" in done.stderr
    assert "is not a Metagame server" in done.stderr
    assert "No server answers" not in done.stderr
    assert "Mozilla" not in done.stderr
    assert "mozilla" not in done.stderr


def test_a_server_whose_store_is_away_is_quoted(tmp_path: Path) -> None:
    with redis(tmp_path) as store, worker("worker", tmp_path, store.url) as server:
        store.process.kill()
        done = metagame("demo", "--url", f"http://127.0.0.1:{server.port}")
    assert done.returncode == 3
    assert "The session store cannot be reached" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo", "--steps", "0"),
        ("demo", "--steps", "x"),
        ("demo", "--bogus"),
        ("bogus",),
        ("demo", "--crash", "--url", "http://localhost"),
        ("demo", "--url", "nonsense"),
        ("serve", "--workers", "2"),
        ("serve", "--port", "x"),
        ("serve", "--bogus"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(arguments: tuple[str, ...]) -> None:
    done = metagame(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def test_the_version_is_the_packages() -> None:
    assert metagame("--version").stdout == f"metagame {__version__}\n"
