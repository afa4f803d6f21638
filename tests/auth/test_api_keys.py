"""On a server with keys, nothing but the free paths is answered without one: one body over every way in."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator

import httpx
import pytest

from metagame.errors import Unauthorized
from metagame.wire.answers import error_of_body
from metagame.wire.keys import key_protocols, keys_of_headers, keys_of_protocols
from services.surfaces.api_keys import is_free
from tests.auth.conftest import FIRST, SECOND
from tests.auth.ways import REQUESTS, SOCKETS, WAYS, Said, over_http
from tests.behaviour.apps import running_app
from tests.servers import Server, run_server

BY: dict[str, Callable[[str], dict[str, str]]] = {
    "bearer": lambda key: {"Authorization": f"Bearer {key}"},
    "bearer in small letters": lambda key: {"authorization": f"bearer  {key}"},
    "header": lambda key: {"X-API-Key": key},
    "beside another login": lambda key: {"Authorization": "Basic dXNlcjpwYXNz", "X-API-Key": key},
}
WRONG: dict[str, dict[str, str]] = {
    "nothing": {},
    "another key": {"X-API-Key": "third-key.3"},
    "an empty key": {"X-API-Key": ""},
    "the list": {"X-API-Key": f"{FIRST},{SECOND}"},
    "a beginning": {"X-API-Key": FIRST[:-1]},
    "more than a key": {"Authorization": f"Bearer {FIRST}x"},
    "a key as a login": {"Authorization": f"Basic {FIRST}"},
    "a key in a cookie": {"Cookie": f"api_key={FIRST}"},
    "a key in capitals": {"X-API-Key": FIRST.upper()},
}


def is_refused(said: Said) -> None:
    assert (said.status, said.body["code"], said.body["reason"]) == (401, "UNAUTHORIZED", "unauthorized")
    assert said.headers["www-authenticate"] == "Bearer"
    assert "METAGAME_API_KEY" in said.body["detail"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", WRONG)
def test_no_way_in_is_open_without_a_key(keyed: Server, way: str, wrong: str) -> None:
    is_refused(WAYS[way](keyed.url, WRONG[wrong]))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("by", BY)
def test_every_way_in_is_open_with_one_of_the_keys(keyed: Server, way: str, by: str) -> None:
    made = httpx.post(f"{keyed.url}/sessions/keyed/reset", headers=BY["header"](FIRST), trust_env=False)
    assert made.status_code == 200
    for key in (FIRST, SECOND):
        said = WAYS[way](keyed.url, BY[by](key))
        assert said.status in ({101} if way in SOCKETS else {200, 201, 204} if way != "inspect" else {200, 404})


@pytest.mark.parametrize("way", SOCKETS)
@pytest.mark.parametrize("key", [FIRST, SECOND])
def test_a_browsers_socket_carries_its_key_among_the_subprotocols(keyed: Server, way: str, key: str) -> None:
    said = SOCKETS[way](keyed.url, {}, key_protocols(key))
    assert (said.status, said.subprotocol) == (101, "metagame")


@pytest.mark.parametrize("way", SOCKETS)
@pytest.mark.parametrize(
    "offered",
    [
        ["metagame"],
        ["metagame", "metagame.key."],
        ["metagame", "metagame.key.*"],
        ["metagame", f"metagame.key.{FIRST}"],
        key_protocols("third-key.3"),
        [key_protocols(FIRST)[1] + "x", "metagame"],
    ],
)
def test_a_wrong_key_among_the_subprotocols_is_none(keyed: Server, way: str, offered: list[str]) -> None:
    is_refused(SOCKETS[way](keyed.url, {}, offered))


@pytest.mark.parametrize("way", REQUESTS)
def test_subprotocols_count_on_sockets_only(keyed: Server, way: str) -> None:
    is_refused(REQUESTS[way](keyed.url, {"Sec-WebSocket-Protocol": ", ".join(key_protocols(FIRST))}))


@pytest.mark.parametrize("offered", [["metagame"], ["other", "metagame"], key_protocols(FIRST)])
@pytest.mark.parametrize("way", SOCKETS)
def test_an_open_server_chooses_the_subprotocol_as_well(echo_server: Server, way: str, offered: list[str]) -> None:
    said = SOCKETS[way](echo_server.url, {}, offered)
    assert (said.status, said.subprotocol) == (101, "metagame")
    assert SOCKETS[way](echo_server.url, {}, ["other"]).subprotocol is None


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_what_balancers_ask_is_free(keyed: Server, path: str) -> None:
    assert over_http("GET", path)(keyed.url, {}).status == 200
    assert over_http("HEAD", path)(keyed.url, {}).status == 200
    is_refused(over_http("POST", path)(keyed.url, {}))


@pytest.mark.parametrize("path", ["/", "/metrics", "/web", "/web/", "/web/page.js", "/web/fonts/a.woff2"])
def test_the_page_and_the_metrics_are_free(path: str) -> None:
    for root_path in ("", "/envs/metagame"):
        scope = {"type": "http", "method": "GET", "path": root_path + path, "root_path": root_path}
        assert is_free(scope)
        assert not is_free(scope | {"method": "POST"})
        assert not is_free(scope | {"type": "websocket"})


@pytest.mark.parametrize(
    "path",
    [
        *("/web/metadata", "/web/reset", "/web/step", "/web/state", "/web/state/", "/web/state/x"),
        *("/pool", "/sessions", "/health/", "/healthy", "/metrics/x", "/webs", "//health", "/web/../pool", "/docs"),
    ],
)
def test_nothing_else_is_free(keyed: Server, path: str) -> None:
    if path != "/web/../pool":
        assert not is_free({"type": "http", "method": "GET", "path": path})
        is_refused(over_http("GET", path)(keyed.url, {}))
    assert over_http("GET", path)(keyed.url, {}).status in {401, 404}


@pytest.mark.parametrize("channel", ["direct", "asgi"])
def test_under_a_root_path_and_another_server_it_is_the_same(channel: str) -> None:
    with running_app(channel=channel, api_keys=FIRST, root_path="/envs/metagame") as url:  # type: ignore[arg-type]
        for prefix in ("", "/envs/metagame"):
            assert over_http("GET", "/health")(url + prefix, {}).status == 200
            for way in WAYS:
                if way != "tasks":
                    is_refused(WAYS[way](url + prefix, {}))
            for way in SOCKETS:
                assert SOCKETS[way](url + prefix, {}, key_protocols(FIRST)).subprotocol == "metagame"


def test_a_body_that_came_without_a_key_is_not_looked_at(keyed: Server) -> None:
    with httpx.Client(base_url=keyed.url, trust_env=False) as client:
        refused = client.post("/step", content=b"{" * 3_000_000, headers={"content-type": "application/json"})
        assert type(error_of_body(refused.content)) is Unauthorized
        assert client.get("/health").status_code == 200


@pytest.fixture
def watched() -> Iterator[Server]:
    with run_server(METAGAME_API_KEYS=FIRST, METAGAME_LOG_FORMAT="json") as server:
        yield server


def test_neither_keys_nor_refusals_are_in_the_log(watched: Server) -> None:
    for way in WAYS:
        for headers in ({}, BY["header"](FIRST), BY["bearer"](SECOND)):
            WAYS[way](watched.url, headers)
    for way in SOCKETS:
        SOCKETS[way](watched.url, {}, key_protocols(FIRST))
        SOCKETS[way](watched.url, {}, key_protocols(SECOND))
    assert watched.terminate() == 0
    for key in (FIRST, SECOND):
        assert key not in watched.log
        assert base64.urlsafe_b64encode(key.encode()).decode().rstrip("=") not in watched.log
    assert "ERROR" not in watched.log
    assert "without completing handshake" not in watched.log


def test_a_header_may_hold_any_bytes() -> None:
    said = [
        (b"x-api-key", b"\xff\0"),
        (b"authorization", b"Bearer \xff"),
        (b"authorization", b"Bearer"),
        (b"other", b"x"),
    ]
    assert keys_of_headers(said) == [b"\xff\0", b"\xff"]


@pytest.mark.parametrize("key", [FIRST, SECOND, "x" * 256, "~~~~~~~~", "????????"])
def test_both_ends_of_the_subprotocol_agree(key: str) -> None:
    assert keys_of_protocols(key_protocols(key)) == [key.encode()]
