"""`metagame sessions` on a real server: listed, shown, watched, ended, and what is said where that cannot be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.cli.scripted import Said, scripted
from tests.cli.typed import metagame, objects, on_terminal
from tests.servers import Server, run_server
from tests.wire.sockets import ask, open_socket

EPISODE = "0a3f2c1e-3f9d-4f5e-9d58-0c8a1b7f2d11"


@pytest.fixture
def client(echo_server: Server) -> Iterator[httpx.Client]:
    """Requests to the server, all of whose sessions end with the test."""
    with httpx.Client(base_url=echo_server.url, trust_env=False) as one:
        yield one
        for item in one.get("/sessions", params={"limit": 1000}).json()["sessions"]:
            one.delete(f"/sessions/{item['session_id']}")


def plays(client: httpx.Client, session_id: str, steps: int) -> None:
    client.post(f"/sessions/{session_id}/reset", json={"episode_id": EPISODE})
    for _ in range(steps):
        client.post(f"/sessions/{session_id}/step", json={"action": {"message": "hi"}}).raise_for_status()


def test_the_list_shows_where_each_session_stands(echo_server: Server, client: httpx.Client) -> None:
    plays(client, "rollout-1", 3)
    client.post("/sessions", json={"session_id": "rollout-2"})
    with open_socket(echo_server.ws_url, "/sessions/rollout-3/ws") as socket:
        ask(socket, {"type": "reset"})
        done = metagame("sessions", "list", echo_server.url)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert rows["rollout-1"][1:5] == [EPISODE, "3", "4", "none"]
    assert rows["rollout-2"][1:3] == ["-", "0"]
    assert rows["rollout-3"][4:] == ["attached", "-"]
    assert rows["rollout-1"][5:] == ["in", "60", "min"]
    assert f"3 sessions at {echo_server.url}" in done.stdout


def test_a_long_list_says_that_there_is_more_and_all_shows_everything(
    echo_server: Server, client: httpx.Client
) -> None:
    for number in range(25):
        client.post("/sessions", json={"session_id": f"many-{number}"})
    done = metagame("sessions", "list", echo_server.url, "--limit", "10")
    assert done.stdout.count("many-") == 10
    assert "there are more: --all" in done.stdout
    [few] = objects("sessions", "list", echo_server.url, "--limit", "10")
    assert (len(few["sessions"]), few["more"]) == (10, True)
    [everything] = objects("sessions", "list", echo_server.url, "--all")
    assert {one["session_id"] for one in everything["sessions"]} == {f"many-{number}" for number in range(25)}
    assert (everything["command"], everything["more"]) == ("sessions list", False)


def test_pages_that_repeat_a_session_show_it_once() -> None:
    item = {"episode_id": None, "step_count": None, "generation": None, "attached": None, "expires_in_s": None}
    page = {"sessions": [{"session_id": "twice", **item}, {"session_id": "twice", **item}], "next_cursor": None}
    with scripted({"/sessions": Said(200, page)}) as server:
        done = metagame("sessions", "list", server.url)
    assert done.stdout.count("twice") == 1
    assert "1 session at" in done.stdout
    assert "?" in done.stdout, "what a newer release wrote"


def test_an_empty_pool_says_so(echo_server: Server, client: httpx.Client) -> None:
    assert metagame("sessions", "list", echo_server.url).stdout == f"no session at {echo_server.url}\n"


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_the_id_is_whole_and_nothing_is_wider(
    echo_server: Server, client: httpx.Client, columns: int
) -> None:
    session_id = "0123456789abcdef0123456789abcdef"
    plays(client, session_id, 1)
    with on_terminal("sessions", "list", echo_server.url, columns=columns) as terminal:
        assert terminal.ends() == 0
        assert session_id in terminal.text
        assert terminal.widest <= columns
        assert (EPISODE in terminal.text) == (columns == 120)


def test_what_a_client_named_does_nothing_to_a_terminal(echo_server: Server, client: httpx.Client) -> None:
    client.post("/sessions/odd/reset", json={"episode_id": "[red]\x1b]0;mine\x07[/nonsense]"})
    for command in (("list",), ("show", "odd")):
        shown = metagame("sessions", command[0], echo_server.url, *command[1:]).stdout
        assert "[red]�]0;mine�[/nonsense]" in shown


def test_one_session_is_shown(echo_server: Server, client: httpx.Client) -> None:
    plays(client, "rollout-1", 2)
    done = metagame("sessions", "show", echo_server.url, "rollout-1")
    for words in (("session", "rollout-1"), ("episode", EPISODE), ("step", "2"), ("socket", "none")):
        assert list(words) in [line.split()[:2] for line in done.stdout.splitlines()]
    [shown] = objects("sessions", "show", echo_server.url, "rollout-1")
    assert (shown["command"], shown["session_id"], shown["step_count"]) == ("sessions show", "rollout-1", 2)


def test_a_session_that_is_not_there_exits_with_1(echo_server: Server) -> None:
    for verb in ("show", "watch"):
        [said] = objects("sessions", verb, echo_server.url, "nobody", code=1)
        assert "There is no session nobody: it ended, expired, or was never made." in said["error"]


def test_a_watch_shows_each_change_until_the_session_ends(echo_server: Server, client: httpx.Client) -> None:
    plays(client, "watched", 1)
    watch = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "metagame",
            "sessions",
            "watch",
            echo_server.url,
            "watched",
            "--json",
            "--every",
            "0.05",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watch.stdout is not None
    try:
        first = json.loads(watch.stdout.readline())
        assert (first["step_count"], first["attached"], first["ended"]) == (1, False, False)
        with open_socket(echo_server.ws_url, "/sessions/watched/ws") as socket:
            assert json.loads(watch.stdout.readline())["attached"] is True
            ask(socket, {"type": "step", "data": {"message": "x"}})
            assert json.loads(watch.stdout.readline())["step_count"] == 2
        client.delete("/sessions/watched")
        last = [json.loads(line) for line in watch.stdout][-1]
    finally:
        watch.kill()
        watch.communicate()
    assert (last["session_id"], last["ended"]) == ("watched", True)
    assert all(one["schema_version"] == 1 for one in (first, last))


def test_a_watch_on_a_terminal_is_live_and_says_how_it_ended(echo_server: Server, client: httpx.Client) -> None:
    plays(client, "watched", 1)
    with on_terminal("sessions", "watch", echo_server.url, "watched", "--every", "0.05") as terminal:
        terminal.until("generation", "none")
        client.post("/sessions/watched/step", json={"action": {"message": "x"}}).raise_for_status()
        client.delete("/sessions/watched")
        terminal.until("The session ended")
        assert terminal.ends() == 0


def test_a_stopped_watch_ends_quietly_with_130(echo_server: Server, client: httpx.Client) -> None:
    plays(client, "watched", 1)
    with on_terminal("sessions", "watch", echo_server.url, "watched") as terminal:
        terminal.until("generation")
        assert terminal.ends(signal.SIGINT) == 130
        assert "Traceback" not in terminal.text


def test_a_watch_outlives_a_restart_of_the_server() -> None:
    item = {"session_id": "a", "episode_id": "e", "generation": 1, "attached": True, "expires_in_s": 60.0}
    with scripted({"": Said(200, item | {"step_count": 1})}) as server:
        watch = subprocess.Popen(
            [sys.executable, "-m", "metagame", "sessions", "watch", server.url, "a", "--every", "0.05"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert watch.stdout is not None
        try:
            assert watch.stdout.readline().startswith("step 1  attached")
            server.answers[""] = Said(503, {"detail": "The store is away.", "code": "SESSION_ERROR"})
            assert "cannot answer now (HTTP status 503): The store is away." in watch.stdout.readline()
            server.answers[""] = Said(200, item | {"step_count": 2})
            assert watch.stdout.readline().startswith("step 2  attached")
            gone = {"detail": "gone", "code": "SESSION_ERROR", "reason": "session_lost"}
            server.answers[""] = Said(404, gone)
            assert watch.wait(30) == 0
        finally:
            watch.kill()
            watch.communicate()


def test_sessions_are_ended_and_those_that_did_not_exist_are_named(echo_server: Server, client: httpx.Client) -> None:
    plays(client, "one", 1)
    plays(client, "two", 1)
    done = metagame("sessions", "end", echo_server.url, "one", "nobody", "--yes")
    assert (done.returncode, done.stdout) == (0, "one  ended\nnobody  did not exist\n")
    [said] = objects("sessions", "end", echo_server.url, "two", "two", "one", "--yes")
    assert said["sessions"] == [{"session_id": "two", "existed": True}, {"session_id": "one", "existed": False}]
    assert client.get("/sessions").json()["sessions"] == []


def test_where_nobody_can_be_asked_nothing_ends_without_yes(echo_server: Server, client: httpx.Client) -> None:
    plays(client, "kept", 1)
    done = metagame("sessions", "end", echo_server.url, "kept")
    assert (done.returncode, done.stdout) == (2, "")
    assert "say --yes" in done.stderr
    assert client.get("/sessions/kept").status_code == 200


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1)])
def test_on_a_terminal_it_asks_first(echo_server: Server, client: httpx.Client, answer: str, code: int) -> None:
    plays(client, "asked", 1)
    with on_terminal("sessions", "end", echo_server.url, "asked") as terminal:
        terminal.until("End session asked at", "[y/N]")
        terminal.types(answer)
        assert terminal.ends() == code
        assert ("asked  ended" in terminal.text) == (code == 0)
        assert ("Nothing was ended." in terminal.text) == (code == 1)
    assert client.get("/sessions/asked").status_code == (404 if code == 0 else 200)


def test_a_failure_half_way_says_what_was_ended() -> None:
    gone = Said(404, {"detail": "gone", "code": "SESSION_ERROR", "reason": "session_lost"})
    away = Said(503, {"detail": "The store is away.", "code": "SESSION_ERROR"})
    answers = {"DELETE /sessions/one": Said(204), "/sessions/one": gone, "/sessions/two": away}
    with scripted(answers) as server:
        [said] = objects("sessions", "end", server.url, "one", "two", "--yes", code=3)
    assert said["error"].endswith("The store is away. 1 of 2 were ended before.")
    assert said["sessions"] == [{"session_id": "one", "existed": False}]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("list", "URL", "--all", "--limit", "3"), "give one of them"),
        (("list", "URL", "--limit", "0"), "--limit"),
        (("show", "URL", "no such id"), "1 to 128 characters"),
        (("end", "URL", "fine", "a/b", "--yes"), "1 to 128 characters"),
        (("show", "URL"), "ID"),
        (("end", "URL", "--yes"), "ID"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_wrong_usage_exits_with_2(echo_server: Server, arguments: tuple[str, ...], says: str) -> None:
    done = metagame("sessions", *(echo_server.url if one == "URL" else one for one in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_production_mode_shows_no_sessions_and_says_why() -> None:
    with run_server(METAGAME_MODE="production") as server:
        done = metagame("sessions", "list", server.url)
    assert done.returncode == 2
    assert "runs in production mode" in done.stderr


def test_a_closed_pipe_is_no_traceback(echo_server: Server, client: httpx.Client) -> None:
    for number in range(200):
        client.post("/sessions", json={"session_id": f"many-{number}"})
    command = f"{sys.executable} -m metagame sessions list {echo_server.url} --all | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert "Traceback" not in done.stderr
