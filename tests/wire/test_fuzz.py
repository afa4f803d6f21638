"""Bounded fuzzing of a running server: no request is answered by a 5xx, no frame drops a socket."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from metagame.errors import TABLE
from tests.servers import Server, run_server
from tests.wire.sockets import INTERNAL, ask, open_socket

CODES = {row.code for row in TABLE.values()}
# Fixtures of the module's scope serve all examples: the server is what is tested.
bounded = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

text = st.text(max_size=12) | st.sampled_from(["", "\0", "\ud800", "é", "😀", "step", "x" * 300])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**25])
    | st.floats()
    | text
)
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=8
)
expects = junk | st.fixed_dictionaries({"episode_id": junk, "step_count": junk})
request_ids = text | st.sampled_from(["r1", "r2"]) | junk
actions = junk | st.fixed_dictionaries({"message": text | junk}, optional={"metadata": junk, "bogus": junk})
episodes = junk | st.fixed_dictionaries({}, optional={"seed": junk, "episode_id": text | junk, "option": junk})
addressed = {"request_id": request_ids, "expect": expects}

frames = st.one_of(
    st.fixed_dictionaries({"type": st.just("step"), "data": actions}, optional=addressed),
    st.fixed_dictionaries({"type": st.just("reset")}, optional={"data": episodes, **addressed}),
    st.fixed_dictionaries({"type": st.just("state")}, optional={"data": junk, **addressed}),
    st.fixed_dictionaries({"type": text | junk}, optional={"data": junk, **addressed}),
    junk,
).map(json.dumps)
sent = st.one_of(
    frames,
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.binary(max_size=40),
    st.tuples(frames, st.integers(0, 60)).map(lambda cut: cut[0][: cut[1]]),
)

PAGE_PATHS = [
    *("/web/reset", "/web/step", "/web/state", "/web/metadata", "/web/main.js", "/web/nope", "/web/a/b"),
    *("/", "/web", "/web/", "/web//step", "/web/%2e%2e/step"),
]

bodies = st.one_of(
    st.fixed_dictionaries({"action": actions}, optional={"timeout_s": junk, **addressed}),
    st.fixed_dictionaries({"message": text | junk}, optional={"action": actions, "timeout_s": junk, **addressed}),
    st.fixed_dictionaries({}, optional={"seed": junk, "episode_id": text | junk, **addressed, "option": junk}),
    st.fixed_dictionaries({"session_id": text | junk}),
    junk,
).map(lambda body: json.dumps(body).encode()) | st.binary(max_size=40)
ids = st.sampled_from(["one", "two", "three", "a b", "%00", "%ff", "é", "x" * 200, ".", "..", "-"]) | st.text(
    st.characters(codec="latin-1", min_codepoint=33, exclude_characters="/?#\x7f"), min_size=1, max_size=8
)
paths = st.one_of(
    st.sampled_from(["/reset", "/step", "/state", "/sessions", "/health", "/ready", "/metadata", "/schema", "/ws"]),
    st.sampled_from(PAGE_PATHS),
    st.builds("/sessions/{}{}".format, ids, st.sampled_from(["", "/reset", "/step", "/state", "/ws", "/nope"])),
)
header_values = st.text(st.characters(codec="latin-1", min_codepoint=32, exclude_characters="\x7f"), max_size=20).map(
    lambda value: value.strip().encode("latin-1")
)
headers = st.fixed_dictionaries(
    {},
    optional={
        b"x-session-id": st.sampled_from([b"one", b"two", b""]) | header_values,
        b"cookie": header_values.map(lambda value: b"metagame_session=" + value) | header_values,
        b"idempotency-key": st.sampled_from([b"r1", b"k" * 300]) | header_values,
        b"content-type": st.sampled_from([b"application/json", b"application/json; charset=x", b"text/plain"])
        | header_values,
    },
)
queries = st.dictionaries(
    st.sampled_from(["session_id", "limit", "cursor", "x"]),
    st.text(st.characters(codec="utf-8"), max_size=8),
    max_size=2,
)
asked = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST", "POST", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"]),
        "url": paths,
        "params": queries,
        "headers": headers,
        "content": bodies,
    }
)
on_page = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST", "POST", "POST", "PUT"]),
        "url": st.sampled_from([*PAGE_PATHS, *["/web/step"] * len(PAGE_PATHS)]),
        "params": st.just({}),
        "headers": headers,
        "content": bodies,
    }
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with run_server() as running:
        yield running
        assert "Traceback" not in running.log


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as opened:
        yield opened


@pytest.fixture(scope="module")
def socket(server: Server) -> Iterator[ClientConnection]:
    with open_socket(server.ws_url, "/sessions/fuzzed/ws") as opened:
        yield opened


@settings(bounded, max_examples=600)
@given(frame=sent)
def test_every_frame_gets_one_answer_and_the_socket_stays(socket: ClientConnection, frame: str | bytes) -> None:
    answer = ask(socket, frame)
    assert answer["type"] in {"observation", "state", "error"}
    if answer["type"] == "error":
        assert answer["data"]["code"] in CODES
        assert answer["data"]["reason"] not in {"game_failed", "unavailable"}
    assert ask(socket, '{"type":"state","request_id":"mark"}')["request_id"] == "mark"


def test_every_route_of_the_page_is_among_the_paths(client: httpx.Client) -> None:
    routes = {path for path in client.get("/openapi.json").json()["paths"] if path.startswith("/web")}
    assert len(routes) == 4
    assert routes <= set(PAGE_PATHS)


@settings(bounded, max_examples=200)
@given(asked=on_page)
def test_no_request_to_the_page_is_the_servers_fault(client: httpx.Client, asked: dict[str, Any]) -> None:
    """In an episode, so that what the game and the store make of it is met too, and not a missing session alone."""
    client.cookies.clear()
    asked["headers"] |= {b"x-session-id": b"fuzzed-page", b"content-type": b"application/json"}
    client.post("/web/reset", headers={"X-Session-ID": "fuzzed-page"})
    _check(client.request(**asked))


@settings(bounded, max_examples=600)
@given(asked=asked)
def test_no_request_is_the_servers_fault(client: httpx.Client, asked: dict[str, Any]) -> None:
    client.cookies.clear()
    _check(client.request(**asked))


def _check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        error: dict[str, Any] = answer.json()
        assert error["code"]
        assert error["detail"]


@settings(bounded, max_examples=150)
@given(query=queries, session_id=ids)
def test_every_handshake_is_answered(server: Server, query: dict[str, str], session_id: str) -> None:
    path = httpx.URL(f"/sessions/{session_id}/ws", params=query).raw_path.decode()
    if path.count("/") != 3:
        return  # a dot segment: another path, which the other test takes
    with open_socket(server.ws_url, path) as opened:
        answer = _state_or_refusal(opened)
    assert answer["type"] in {"state", "error"}
    assert not INTERNAL.search(json.dumps(answer))


def _state_or_refusal(opened: ClientConnection) -> dict[str, Any]:
    """The state, or why the socket was not to be had, which comes unasked."""
    try:
        return ask(opened, '{"type":"state"}')
    except ConnectionClosed:  # closed before we could send; its frame is still there
        frame: dict[str, Any] = json.loads(opened.recv(timeout=10))
        return frame
