"""What the command says of a server that is not there, is not Metagame, or lets nobody in: whichever command asks."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metagame.cli import processes
from metagame.cli.outcome import Refused
from metagame.cli.target import target_of
from tests.balancer.certificates import make_certificate
from tests.cli.scripted import Said, scripted
from tests.cli.typed import metagame, objects

COMMANDS = {
    "list": ("sessions", "list", "URL"),
    "show": ("sessions", "show", "URL", "a"),
    "watch": ("sessions", "watch", "URL", "a"),
    "end": ("sessions", "end", "URL", "a", "--yes"),
    "status": ("pool", "status", "URL"),
    "pool watch": ("pool", "watch", "URL"),
    "check": ("check", "URL"),
    "bench": ("bench", "URL", "--steps", "1", "--sockets", "1"),
    "demo": ("demo", "--url", "URL", "--episodes", "1", "--steps", "1"),
}
EVERY = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


def at(url: str, command: tuple[str, ...], *more: str) -> tuple[str, ...]:
    return (*(url if one == "URL" else one for one in command), *more)


def refused(code: int, *arguments: str, **environment: str) -> str:
    """What is said, on stderr and as JSON alike, by a command that exits with this code."""
    done = metagame(*arguments, "--json", **environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    [line] = done.stdout.splitlines()
    shown = json.loads(line)
    assert shown["schema_version"] == 1
    assert shown["error"] + "\n" == done.stderr
    error: str = shown["error"]
    return error


@EVERY
def test_nobody_there_exits_with_3_and_says_how_to_start_one(command: tuple[str, ...]) -> None:
    url = f"http://127.0.0.1:{processes.free_port()}"
    said = refused(3, *at(url, command))
    assert said == f"No server answers at {url}: connection refused. `metagame serve` starts one on port 8000."


@EVERY
def test_a_url_without_a_scheme_is_answered_with_the_whole_one(command: tuple[str, ...]) -> None:
    said = refused(2, *at("localhost:8000", command))
    assert said == "'localhost:8000' is no server's address: it has no scheme. Did you mean http://localhost:8000?"


@pytest.mark.parametrize("url", ["ftp://localhost", "http://", "http://localhost:x", "http://localhost/?a=1"])
def test_another_url_that_is_no_address_says_what_one_looks_like(url: str) -> None:
    assert "It looks like http://localhost:8000" in refused(2, "sessions", "list", url)


@pytest.mark.parametrize("url", ["", "http://.."])
@EVERY
def test_a_url_from_which_no_address_can_be_made_is_answered_with_an_example(
    command: tuple[str, ...], url: str
) -> None:
    said = refused(2, *at(url, command))
    assert said.startswith(f"The URL is {url!r}, which is no server's address. It looks like http://localhost:8000")


@EVERY
def test_what_is_said_of_a_broken_connection_ends_once(command: tuple[str, ...]) -> None:
    with hanging_up() as url:
        said = refused(3, *at(url, command))
    assert said.endswith(". `metagame serve` starts one on port 8000.")
    assert ".." not in said


@contextmanager
def hanging_up() -> Iterator[str]:
    """The address of a server that takes connections and closes them without a word."""

    class Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Silent) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


ODD = {
    "localhost": "http://localhost",
    ":8000": "http://localhost:8000",
    "8000": "http://localhost:8000",
    "//localhost:8000": "http://localhost:8000",
    "http:/localhost": "http://localhost",
    "https//lab.example": "https://lab.example",
    "localhost:8000/sessions/a": "http://localhost:8000",
    "localhost:8000/envs/echo": "http://localhost:8000/envs/echo",
    "[::1]:8000": "http://[::1]:8000",
    "127.0.0.1:8000 ": "http://127.0.0.1:8000",
    "bücher.example": "http://bücher.example",
    "my_host.example.:80": "http://my_host.example.:80",
}


@pytest.mark.parametrize("typed", ODD)
def test_an_address_that_is_suggested_is_one(typed: str) -> None:
    with pytest.raises(Refused) as told:
        target_of(typed)
    assert str(told.value).endswith(f" Did you mean {ODD[typed]}?")
    assert target_of(ODD[typed]).url == ODD[typed]


UNTOLD = ["", " ", "?", "/", "::1", "...", "a b", "localhost:abc", "localhost:8000?x=1", "localhost:99999"]


@pytest.mark.parametrize("typed", [*UNTOLD, "http://", "http://local host", "http://a%20b", "http://a..b", "http://*"])
def test_what_would_be_refused_is_not_suggested(typed: str) -> None:
    with pytest.raises(Refused, match="It looks like http://localhost:8000"):
        target_of(typed)


def test_a_url_that_names_a_session_is_told_the_servers() -> None:
    said = refused(2, "pool", "status", "http://localhost:8000/sessions/a")
    assert said == "The URL names a session. Leave /sessions/... out: http://localhost:8000 is the server."


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("list", "<html>Welcome</html>"),
        ("list", {"detail": "Not Found"}),
        ("list", []),
        *((name, {"detail": "Not Found"}) for name in ("show", "status", "check", "demo")),
    ],
)
def test_what_is_not_metagame_exits_with_3_and_is_named(name: str, body: object) -> None:
    with scripted({"": Said(404, body)}) as server:
        said = refused(3, *at(server.url, COMMANDS[name]))
    assert "is not a Metagame server" in said
    assert server.url in said


@pytest.mark.parametrize("name", ["list", "status"])
def test_a_page_where_json_is_due_is_not_metagame(name: str) -> None:
    with scripted({"": Said(200, "<html>Welcome</html>")}) as server:
        assert "is not a Metagame server" in refused(3, *at(server.url, COMMANDS[name]))


@pytest.mark.parametrize("name", ["list", "status"])
def test_json_of_another_kind_is_not_metagame_either(name: str) -> None:
    with scripted({"": Said(200, {"hello": "world"})}) as server:
        assert "Check the URL." in refused(3, *at(server.url, COMMANDS[name]))


KEYLESS = Said(401, {"detail": "An API key is needed.", "code": "UNAUTHORIZED"}, {"WWW-Authenticate": "Bearer"})


@pytest.mark.parametrize("name", COMMANDS)
def test_a_server_that_wants_a_key_says_how_to_give_one(name: str) -> None:
    with scripted({"": KEYLESS}) as server:
        said = refused(2, *at(server.url, COMMANDS[name]))
        assert said == (f"{server.url} wants an API key (HTTP status 401): pass --api-key, or set METAGAME_API_KEY.")
        said = refused(2, *at(server.url, COMMANDS[name], "--api-key", "a-wrong-key"))
    assert "does not take this API key" in said
    assert "a-wrong-key" not in said


@EVERY
def test_the_key_is_sent_whichever_command_asks(command: tuple[str, ...]) -> None:
    with scripted({"": KEYLESS}) as server:
        metagame(*at(server.url, command), METAGAME_API_KEY="the-key-1")
        assert server.asked
        assert {headers.get("x-api-key") for _, _, headers in server.asked} == {"the-key-1"}


def test_a_key_that_is_typed_beats_the_variable() -> None:
    with scripted({"": KEYLESS}) as server:
        metagame("sessions", "list", server.url, "--api-key", "the-key-1", METAGAME_API_KEY="the-key-2")
        assert server.asked[-1][2]["x-api-key"] == "the-key-1"


def test_a_key_that_no_header_carries_is_refused_and_not_shown() -> None:
    said = refused(2, "pool", "status", "http://localhost:9", "--api-key", "two words")
    assert "API key" in said
    assert "two words" not in said


def test_a_proxys_own_login_is_told_from_an_api_key() -> None:
    with scripted({"": Said(401, "", {"WWW-Authenticate": 'Basic realm="x"'})}) as server:
        said = refused(2, "sessions", "list", server.url)
        assert "put them into the URL, as https://user:password@host" in said
        metagame("sessions", "list", server.url.replace("://", "://me:secret@"))
        assert server.asked[-1][2]["authorization"] == "Basic bWU6c2VjcmV0"


def test_what_only_operators_may_see_is_refused_in_the_servers_words() -> None:
    detail = "This is for operators only: set METAGAME_API_KEYS, or ask from the machine itself."
    with scripted({"": Said(403, {"detail": detail, "code": "FORBIDDEN"})}) as server:
        assert detail in refused(2, "pool", "status", server.url)


def test_a_firewalls_403_is_told_from_the_servers() -> None:
    with scripted({"": Said(403, "<html>no</html>")}) as server:
        assert "a proxy or firewall" in refused(2, "pool", "status", server.url)


def test_an_older_server_without_a_pool_says_so() -> None:
    answers = {"": Said(404, {"detail": "Not Found", "code": "NOT_FOUND"}), "/health": Said(200, {"status": "healthy"})}
    with scripted(answers) as server:
        assert "has no /pool: its release is older" in refused(2, "pool", "status", server.url)


@pytest.mark.parametrize("body", ["", {"detail": "The session store cannot be reached.", "code": "SESSION_ERROR"}])
def test_a_server_that_cannot_now_exits_with_3(body: object) -> None:
    with scripted({"": Said(503, body)}) as server:
        said = refused(3, "sessions", "list", server.url)
    assert said.startswith(f"{server.url} cannot answer now (HTTP status 503)")
    assert ("cannot be reached" in said) == bool(body)


def test_a_bug_of_the_servers_is_quoted() -> None:
    with scripted({"": Said(500, {"detail": "Internal Server Error", "code": "INTERNAL_SERVER_ERROR"})}) as server:
        assert "(HTTP status 500): Internal Server Error" in refused(3, "sessions", "list", server.url)


def test_a_redirect_says_where_it_leads() -> None:
    with scripted({"": Said(301, "", {"Location": "https://elsewhere.example/"})}) as server:
        for name in ("list", "check"):
            said = refused(2, *at(server.url, COMMANDS[name]))
            assert "leads to https://elsewhere.example/" in said


def test_a_certificate_that_nobody_vouches_for_is_named(tmp_path: Path) -> None:
    certificate = tmp_path / "both.pem"
    certificate.write_text(make_certificate(tmp_path))
    with scripted({}, certificate) as server:
        for name in ("list", "check", "bench"):
            assert "No secure connection to" in refused(3, *at(server.url, COMMANDS[name]))


def test_the_json_of_a_refusal_is_one_object() -> None:
    [said] = objects("check", "http://localhost:9", "--only", "nonsense", code=2)
    assert (said["command"], said["passed"]) == ("check", False)


WRONG_ARGUMENTS = {
    "an option that is none": (("pool", "status", "URL", "--nope"), "pool status", "No such option: --nope"),
    "no URL": (("sessions", "list"), "sessions list", "Missing argument 'URL'."),
    "no number": (("bench", "URL", "--sockets", "few"), "bench", "Invalid value for '--sockets': "),
    "out of range": (("demo", "--steps", "0"), "demo", "Invalid value for '--steps': "),
    "a command that is none": (("sessions", "lose"), "sessions", "No such command 'lose'."),
    "two that exclude each other": (("demo", "--crash", "--url", "URL"), "demo", "--crash starts servers of its own"),
}


@pytest.mark.parametrize(("arguments", "command", "why"), WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS)
def test_wrong_arguments_exit_with_2_and_are_an_object_too(arguments: tuple[str, ...], command: str, why: str) -> None:
    plain = metagame(*arguments)
    assert (plain.returncode, plain.stdout) == (2, "")
    assert why in plain.stderr
    [shown] = objects(*arguments, code=2)
    assert (shown["schema_version"], shown["command"]) == (1, command)
    assert shown["error"].startswith(why)
