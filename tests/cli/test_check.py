"""`metagame check` on real deployments: a worker, workers on one Redis, production mode, OpenEnv's own server, and
servers that each break one promise."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from metagame.cli import processes
from metagame.cli.checks import CHECKS
from tests.balancer.haproxy import balancer
from tests.cli.scripted import Said, scripted
from tests.cli.typed import metagame, objects, on_terminal
from tests.games.served import pig_server
from tests.redis_servers import RedisServer
from tests.servers import Server, run_server
from tests.survival.workers import Worker, until, workers

NAMES = [one.name for one in CHECKS]
KEPT_BY_NO_STOCK_SERVER = {
    *("ready", "http-by-header", "http-by-path", "loud-loss", "resume-by-path", "resume-by-query"),
    *("sent-again", "request-conflict", "expect", "take-over", "concurrent-steps", "ended-stays-ended", "shared-pool"),
}


def verdicts(url: str, *arguments: str, code: int) -> dict[str, dict[str, Any]]:
    """What each check came to."""
    [shown] = objects("check", url, *arguments, code=code)
    assert (shown["command"], shown["passed"]) == ("check", code == 0)
    return {one["name"]: one for one in shown["checks"]}


def url_of(child: processes.Child) -> str:
    return f"http://127.0.0.1:{child.port}"


def words(found: dict[str, dict[str, Any]], word: str) -> set[str]:
    return {name for name, one in found.items() if one["verdict"] == word}


def sessions_at(url: str) -> list[str]:
    listed = httpx.get(f"{url}/sessions", params={"limit": 1000}, trust_env=False).json()["sessions"]
    return [one["session_id"] for one in listed]


def test_a_worker_passes_and_keeps_no_session_of_the_check(echo_server: Server) -> None:
    found = verdicts(echo_server.url, code=0)
    assert list(found) == NAMES
    assert words(found, "fail") == set()
    assert words(found, "skip") == {"api-key"}
    assert sessions_at(echo_server.url) == []


@pytest.mark.anyio
async def test_two_workers_behind_a_balancer_pass(redis_at: RedisServer, tmp_path: Path) -> None:
    with workers(2, METAGAME_REDIS_URL=redis_at.url) as both, balancer(tmp_path, [one.port for one in both]) as front:
        await front.all_up(both)
        found = verdicts(front.url, code=0)
        assert words(found, "skip") == {"api-key"}
        assert sessions_at(both[0].url) == []


def test_workers_that_share_no_sessions_are_found_out(tmp_path: Path) -> None:
    """As several workers with sessions in their memory are, where each request may meet another."""
    with workers(2) as both, balancer(tmp_path, [one.port for one in both]) as front:
        found = verdicts(front.url, code=1)
    assert {"shared-pool", "http-by-path", "create-then-attach"} <= words(found, "fail")
    assert "METAGAME_REDIS_URL" in found["shared-pool"]["todo"]
    assert words(found, "fail") <= {"tools", *(one.name for one in CHECKS if one.group == "survival")}


def test_production_mode_is_recognised_and_what_needs_http_control_is_skipped() -> None:
    with run_server(METAGAME_MODE="production") as server:
        found = verdicts(server.url, code=0)
        shown = metagame("check", server.url, "--only", "mode").stdout
        assert "in production mode" in shown
    skipped = {one.name for one in CHECKS if one.control}
    assert skipped == {"http-by-header", "http-by-path", "concurrent-steps"}
    assert words(found, "skip") == skipped | {"api-key"}
    assert all(found[name]["remark"] == "production mode: no HTTP control" for name in skipped)
    assert found["mode"]["remark"].endswith("(production: sockets only)")


def test_openenvs_own_server_fails_what_it_does_not_promise_and_the_rest_goes_on(reference: processes.Child) -> None:
    found = verdicts(url_of(reference), code=1)
    assert list(found) == NAMES
    assert words(found, "fail") >= KEPT_BY_NO_STOCK_SERVER
    assert {"health", "metadata", "schema", "environments", "mode", "socket", "order"} <= words(found, "pass")
    assert "of another shape" not in str(found), "each failure is understood"


def test_openenvs_own_server_is_not_survived(reference: processes.Child) -> None:
    found = verdicts(url_of(reference), "--only", "health", "--survive", "1", code=1)
    assert found["health"]["verdict"] == "pass"
    assert found["survive"]["verdict"] == "fail"


def test_a_server_that_wants_a_key_passes_for_whoever_has_one() -> None:
    with run_server(until="/health", METAGAME_API_KEYS="a-good-key-1") as server:
        found = verdicts(server.url, "--survive", "1", "--api-key", "a-good-key-1", code=0)
    assert words(found, "skip") == set()
    assert (found["api-key"]["verdict"], found["survive"]["verdict"]) == ("pass", "pass")


def test_a_server_that_steps_before_any_reset_is_told_what_that_means() -> None:
    with run_server(METAGAME_STEP_BEFORE_RESET="allow") as server:
        found = verdicts(server.url, code=1)
    assert words(found, "fail") == {"loud-loss"}
    assert "METAGAME_STEP_BEFORE_RESET" in found["loud-loss"]["todo"]
    assert "anonymous sockets" in found["loud-loss"]["remark"]


def test_a_worker_whose_redis_is_away_is_not_ready_and_the_check_says_where_to_look(tmp_path: Path) -> None:
    with processes.redis(tmp_path) as store, processes.worker("away", tmp_path, store.url) as server:
        store.process.kill()
        store.process.wait()
        found = verdicts(url_of(server), "--only", "health", "--only", "ready", code=1)
    assert (found["health"]["verdict"], found["ready"]["verdict"]) == ("pass", "fail")
    assert "METAGAME_REDIS_URL" in found["ready"]["todo"]


def test_what_needs_a_store_that_is_away_is_skipped_and_said_to_be_no_fault_of_its_own(tmp_path: Path) -> None:
    with processes.redis(tmp_path) as store, processes.worker("away", tmp_path, store.url) as server:
        store.process.kill()
        store.process.wait()
        found = verdicts(url_of(server), code=1)
    assert words(found, "fail") == {"ready"}
    assert found["socket"]["remark"] == "the server's session store is away, as `ready` tells"


def test_a_server_of_another_game_passes_what_is_not_about_echo(tmp_path: Path) -> None:
    with pig_server(tmp_path) as (url, _):
        found = verdicts(url, code=0)
        refused = metagame("check", url, "--survive", "1")
    assert words(found, "pass") == {"health", "metadata", "schema", "environments", "mode", "ready"}
    assert found["socket"]["remark"] == "the server's game is not echo, which this check plays"
    assert found["schema"]["remark"].endswith("(another game than echo: an action's fields are move)")
    assert (refused.returncode, "--survive plays echo" in refused.stderr) == (2, True)


def test_the_address_of_the_page_is_answered_with_the_server_s_and_makes_no_session(echo_server: Server) -> None:
    for typed in ("/web", "/web/"):
        done = metagame("check", echo_server.url + typed)
        assert done.returncode == 2
        assert f"Did you mean {echo_server.url}?" in done.stderr
    assert sessions_at(echo_server.url) == []


BROKEN: dict[str, tuple[dict[str, Said], str]] = {
    "health": ({"/health": Said(200, {"status": "unwell"})}, "its status is 'unwell'"),
    "metadata": ({"/metadata": Said(200, {"name": "x"})}, "its description is no text"),
    "schema": (
        {"/schema": Said(200, {"action": {"required": ["message", "b"]}, "observation": {}, "state": {}})},
        "required fields are ['message', 'b'], not one",
    ),
    "environments": ({"/list_environments": Said(200, [])}, "no list of names"),
    "mode": ({"/openapi.json": Said(200, {"paths": {"/reset": {}, "/step": {}}})}, "there is only /reset, /step"),
    "ready": ({"/ready": Said(503, {"status": "draining"})}, "a worker that is leaving got the request"),
    "tools": ({"/mcp": Said(200, {"result": {"tools": []}})}, "tools/list lists none"),
    "socket": ({}, "/ws: the handshake is answered with HTTP status 404"),
    "concurrent-steps": ({"POST /sessions": Said(200, {})}, "is answered with HTTP status 404"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_named_with_what_to_do(name: str) -> None:
    answers, says = BROKEN[name]
    there = {"/health": Said(200, {"status": "healthy"}), "/state": Said(200, {"episode_id": None, "step_count": 0})}
    with scripted(there | answers) as server:
        found = verdicts(server.url, "--only", name, code=1)
    assert found[name]["verdict"] == "fail"
    assert says in found[name]["remark"]
    assert found[name]["todo"]


HEALTHY = Said(200, {"status": "healthy"})
OTHERS: dict[str, dict[str, Said]] = {
    "answers all else by JSON of its own": {"/health": HEALTHY, "": Said(404, {"error": "not found", "code": 404})},
    "takes neither POST nor DELETE": {"/health": HEALTHY, "/state": Said(200, {}), "": Said(501, "<html>no</html>")},
    "fails in Metagame's words": {
        "/health": HEALTHY,
        "/state": Said(200, {"episode_id": None, "step_count": 0}),
        "": Said(503, {"detail": "The session store cannot be reached.", "code": "SESSION_ERROR"}),
    },
}


@pytest.mark.parametrize("answers", OTHERS.values(), ids=OTHERS)
def test_no_session_that_was_never_made_is_said_to_be_left(answers: dict[str, Said]) -> None:
    # One that cannot now is asked again until the clients' deadline.
    survive = () if 503 in {said.status for said in answers.values()} else ("--survive", "1")
    with scripted(answers) as server:
        done = metagame("check", server.url, *survive)
    assert done.returncode == 1
    assert " failed, " in done.stdout
    assert "could not be ended" not in done.stdout


def test_openenvs_own_server_has_no_sessions_to_be_left(reference: processes.Child) -> None:
    done = metagame("check", url_of(reference), "--survive", "1")
    assert " failed, " in done.stdout
    assert "could not be ended" not in done.stdout


def test_a_session_that_was_made_and_cannot_be_ended_is_told() -> None:
    item = {"session_id": "x", "episode_id": None, "step_count": 0}
    answers = {
        "/health": HEALTHY,
        "/state": Said(200, {"episode_id": None, "step_count": 0}),
        "": Said(503, {"detail": "No.", "code": "SESSION_ERROR"}),
        "POST /sessions": Said(201, item),
    }
    with scripted(answers) as server:
        done = metagame("check", server.url, "--only", "ended-stays-ended,http-by-path")
    assert "1 session of this check could not be ended, and will expire without it." in done.stdout


def test_an_answer_of_no_known_shape_fails_its_check_and_no_other() -> None:
    answers = {
        "/health": Said(200, {"status": "healthy"}),
        "/state": Said(200, {"episode_id": None, "step_count": 0}),
        "/mcp": Said(200, {"result": "nonsense"}),
    }
    with scripted(answers) as server:
        found = verdicts(server.url, "--only", "health,tools", code=1)
    assert (found["health"]["verdict"], found["tools"]["verdict"]) == ("pass", "fail")
    assert "of another shape than is due" in found["tools"]["remark"]


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_a_terminal(echo_server: Server, columns: int) -> None:
    with on_terminal("check", echo_server.url, columns=columns, lines=60) as terminal:
        assert terminal.ends() == 0
        assert terminal.widest <= columns
        assert "0 failed, 1 skipped" in terminal.text
        assert all(name in terminal.text for name in NAMES)


def test_a_failure_is_shown_in_words_and_colour_is_not_all_there_is(reference: processes.Child) -> None:
    done = metagame("check", url_of(reference), "--only", "ready")
    assert done.returncode == 1
    assert "FAIL  ready" in done.stdout
    assert "0 passed, 1 failed, 0 skipped" in done.stdout
    assert "→ This server is not Metagame" in done.stdout


def test_the_checks_are_listed_without_a_server() -> None:
    done = metagame("check", "--list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == NAMES
    [shown] = objects("check", "--list")
    assert [one["name"] for one in shown["checks"]] == NAMES
    assert all(one["shows"] for one in shown["checks"])


def test_only_some_are_made_in_their_usual_order(echo_server: Server) -> None:
    found = verdicts(echo_server.url, "--only", "expect", "--only", "health,order", code=0)
    assert list(found) == ["health", "order", "expect"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Name the server to check"),
        (("http://localhost:9", "--only", "takeover"), "no check 'takeover'. Did you mean take-over?"),
        (("http://localhost:9", "--survive", "0"), "--survive"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], says: str) -> None:
    done = metagame("check", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def survives(url: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "metagame", "check", url, "--only", "health", "--survive", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.anyio
async def test_a_worker_is_killed_and_comes_back_and_no_step_is_lost(redis_at: RedisServer, tmp_path: Path) -> None:
    with workers(2, METAGAME_REDIS_URL=redis_at.url) as both, balancer(tmp_path, [one.port for one in both]) as front:
        await front.all_up(both)
        playing = survives(front.url, "10", "--json")
        try:
            await until(lambda: len(sessions_at(both[0].url)) >= 12, "sessions of every client")
            both[0].kill()
            both[0].restart()
            out, err = playing.communicate(timeout=120)
        finally:
            playing.kill()
            playing.communicate()
        assert playing.returncode == 0, out + err
        found = json.loads(out)
        survival = found["survival"]
        assert (survival["lost"], survival["repeated"], survival["errors"]) == (0, 0, [])
        assert survival["clients"] == 12
        assert survival["steps"] > 100
        assert survival["reconnects"] > 0
        assert survival["longest_gap_s"] > 0
        assert sessions_at(both[0].url) == []


def test_a_pool_that_forgets_is_found_out() -> None:
    """A worker with sessions in its memory, killed and started again on the same port."""
    worker = Worker()
    worker.start()
    playing = survives(worker.url, "60", "--json")  # its clients end at once when their sessions are lost
    try:
        deadline = time.monotonic() + 30
        while len(sessions_at(worker.url)) < 12:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        worker.kill()
        worker.restart()
        out, err = playing.communicate(timeout=120)
    finally:
        playing.kill()
        playing.communicate()
        worker.end()
    assert playing.returncode == 1, out + err
    [survive] = [one for one in json.loads(out)["checks"] if one["name"] == "survive"]
    assert survive["verdict"] == "fail"
    assert "SessionLost" in survive["remark"]


def test_a_survival_in_production_mode_is_played_on_sockets() -> None:
    with run_server(METAGAME_MODE="production") as server:
        found = verdicts(server.url, "--only", "health", "--survive", "1", code=0)
    assert " of 8 clients: 0 lost, 0 repeated" in found["survive"]["remark"]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=lambda ending: ending.name)
def test_a_check_that_is_stopped_ends_its_sessions(echo_server: Server, ending: signal.Signals) -> None:
    playing = survives(echo_server.url, "600")
    try:
        deadline = time.monotonic() + 30
        while len(sessions_at(echo_server.url)) < 12:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        playing.send_signal(ending)
        _, said = playing.communicate(timeout=30)
    finally:
        playing.kill()
        playing.communicate()
    assert playing.returncode == 130, said
    assert said == "Stopped; the sessions it made are ended.\n"
    assert sessions_at(echo_server.url) == []
