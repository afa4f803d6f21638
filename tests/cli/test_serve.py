"""`metagame serve` as a process: what it takes of the system, and what it says when it listens."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys

import httpx
import pytest

from metagame.cli import processes
from services.serve import announced
from services.settings import Settings
from tests.cli.typed import on_terminal
from tests.servers import run_server

FEW = 256


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells another process' limits")
def test_a_server_allows_itself_as_many_open_files_as_it_may_have() -> None:
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, most))
    try:
        with run_server() as server:
            assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (most, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_a_few_lines_say_where_things_are(columns: int) -> None:
    port = processes.free_port()
    here = f"http://127.0.0.1:{port}"
    with on_terminal("serve", "--port", str(port), columns=columns) as terminal:
        shown = terminal.until("Ctrl-C stops.")
        assert shown.startswith(f"metagame: serving on {here}\n")
        for text in (f"{here}/web", f"{here}/docs", f"{here}/metrics", f"metagame pool watch {here}", "memory"):
            assert text in shown
        assert max(len(line) for line in shown.partition("Ctrl-C stops.")[0].splitlines()) <= 80
        assert terminal.ends(signal.SIGINT) in {0, 130}


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_elsewhere_one_line_says_it(log_format: str) -> None:
    command = [sys.executable, "-m", "metagame", "serve", "--port", "0", "--log-format", log_format]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        # It is asked to leave once it is there: the line is said before the server has its handlers.
        assert httpx.get(f"{line.partition(' on ')[2].split()[0]}/health", trust_env=False, timeout=60).is_success
    finally:
        server.terminate()
        rest, _ = server.communicate(timeout=30)
    assert line.startswith("metagame: serving on http://127.0.0.1:")
    for text in ("/web", "/docs", "/metrics", "/pool", "1 worker", "this process's memory", "Ctrl-C stops"):
        assert text in line
    assert rest == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_that_comes_while_it_starts_is_not_lost(number: signal.Signals) -> None:
    for _ in range(3):
        command = [sys.executable, "-m", "metagame", "serve", "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            server.stdout.readline()
            server.send_signal(number)
            _, said = server.communicate(timeout=30)
        finally:
            server.kill()
            server.communicate()
        assert server.returncode == 0, said
        assert "Traceback" not in said


def test_json_logs_on_a_terminal_are_for_machines_too() -> None:
    with on_terminal("serve", "--port", "0", "--log-format", "json", columns=300) as terminal:
        line = terminal.until("Ctrl-C stops)").splitlines()[0]
        assert "docs at /docs" in line


@pytest.mark.parametrize("terminal", [True, False])
def test_a_password_of_redis_is_never_shown(terminal: bool) -> None:
    settings = Settings(redis_url="redis://me:secret@redis.example:6379/0", workers=4)
    shown = announced(settings, "0.0.0.0", 8000, terminal=terminal)
    assert "secret" not in shown
    assert "redis://***@redis.example:6379/0" in shown
    assert "4 workers" in shown or "workers   4" in shown
    assert shown.startswith("metagame: serving on http://0.0.0.0:8000")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_page_that_is_left_out_is_not_announced(terminal: bool) -> None:
    shown = announced(Settings(web=False), "127.0.0.1", 8000, terminal=terminal)
    assert "/web" not in shown
    assert "/docs" in shown


def test_paths_in_the_line_for_programs_name_the_root_path() -> None:
    shown = announced(Settings(root_path="/envs/echo"), "127.0.0.1", 8000, terminal=False)
    places = "page at /envs/echo/web, docs at /envs/echo/docs, metrics at /envs/echo/metrics, pool at /envs/echo/pool;"
    assert places in shown


def test_links_of_a_server_on_every_address_lead_to_this_machine_and_name_the_root_path() -> None:
    shown = announced(Settings(root_path="/envs/echo"), "::", 8000, terminal=True)
    assert "http://localhost:8000/envs/echo/web" in shown
    assert shown.startswith("metagame: serving on http://[::]:8000\n")
