"""Bad HTTP requests: each gets the right status and an error that names the field, and changes nothing."""

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.servers import Server
from tests.wire.sockets import INTERNAL, ask, open_socket

MAX_BODY_BYTES = 1_048_576
LARGEST_ANSWER = 20_000
JSON = {"content-type": "application/json"}
STEP = {"action": {"message": "x"}}

NOT_JSON: dict[str, str | bytes] = {
    "an open brace": "{bad",
    "a bare word": "hello",
    "NaN": '{"action":{"message":"x"},"timeout_s":NaN}',
    "a number out of range": '{"action":{"message":"x"},"timeout_s":1e999}',
    "a lone surrogate": r'{"action":{"message":"\ud800"}}',
    "a raw NUL": b'{"action":{"message":"a\0b"}}',
    "bytes that are not UTF-8": b'{"action":{"message":"\xff"}}',
    "UTF-16": '{"action":{"message":"x"}}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"action":{"message":"x"}}',
    "100,000 open brackets": "[" * 100_000,
    "an action 500 deep": '{"action":{"message":"x","metadata":' + '{"a":' * 500 + "1" + "}" * 502,
}
WRONG_STEPS: list[tuple[Any, list[Any]]] = [
    ([], ["body"]),
    ("hi", ["body"]),
    (5, ["body"]),
    (None, ["body"]),
    ({}, ["body", "action"]),
    ({"message": "x"}, ["body", "action"]),
    ({"action": None}, ["body", "action"]),
    ({"action": [1]}, ["body", "action"]),
    ({"action": "x"}, ["body", "action"]),
    ({"action": {}}, ["message"]),
    ({"action": {"message": 5}}, ["message"]),
    ({"action": {"message": None}}, ["message"]),
    ({"action": {"message": "x" * 65_537}}, ["message"]),
    ({"action": {"message": "x" * 200_000}}, ["message"]),
    ({"action": {"message": "x", "bogus": 1}}, ["bogus"]),
    ({"action": {"message": "x", "metadata": []}}, ["metadata"]),
    (STEP | {"timeout_s": 0}, ["body", "timeout_s"]),
    (STEP | {"timeout_s": "soon"}, ["body", "timeout_s"]),
    (STEP | {"request_id": 5}, ["body", "request_id"]),
    (STEP | {"request_id": ""}, ["body", "request_id"]),
    (STEP | {"request_id": "r" * 257}, ["body", "request_id"]),
    (STEP | {"expect": 5}, ["body", "expect"]),
    (STEP | {"expect": {"step_count": 1}}, ["body", "expect", "episode_id"]),
    (STEP | {"expect": {"episode_id": "e", "step_count": -1}}, ["body", "expect", "step_count"]),
    (STEP | {"expect": {"episode_id": "e", "step_count": 1, "foo": 1}}, ["body", "expect", "foo"]),
]
WRONG_RESETS: list[tuple[Any, list[Any]]] = [
    ([], ["body"]),
    ({"seed": "abc"}, ["body", "seed"]),
    ({"seed": -1}, ["body", "seed"]),
    ({"seed": 0.5}, ["body", "seed"]),
    ({"seed": 2**63}, ["body", "seed"]),
    ({"seed": 10**30}, ["body", "seed"]),
    ({"episode_id": 5}, ["body", "episode_id"]),
    ({"episode_id": ""}, ["body", "episode_id"]),
    ({"episode_id": "e" * 257}, ["body", "episode_id"]),
    ({"request_id": []}, ["body", "request_id"]),
    ({"expect": {}}, ["body", "expect", "episode_id"]),
]
BAD_IDS = [
    "a b",
    "ü",
    "a" * 129,
    "a:b",
    "a;b",
    "a,b",
    "<script>",
    "a\\b",
    "%",
    "{x}",
    "\t",
    "☃",
    "a'b",
    'a"b',
    "a?b",
    "a#b",
]


@pytest.fixture
def client(echo_server: Server) -> Iterator[httpx.Client]:
    """Where the session `bad-requests` stands at step 1 of episode `e`, before and after the test."""
    with httpx.Client(base_url=echo_server.url, trust_env=False) as client:
        client.post("/sessions/bad-requests/reset", json={"episode_id": "e"}).raise_for_status()
        client.post("/sessions/bad-requests/step", json=STEP).raise_for_status()
        yield client
        stands = client.get("/sessions/bad-requests/state").json()
        assert stands == {"episode_id": "e", "step_count": 1}


@pytest.mark.parametrize("name", NOT_JSON)
@pytest.mark.parametrize("path", ["/step", "/reset"])
def test_a_body_that_is_not_json_is_refused(client: httpx.Client, path: str, name: str) -> None:
    error = _refused(client.post("/sessions/bad-requests" + path, content=NOT_JSON[name], headers=JSON), 422)
    assert (error["code"], error["reason"]) == ("INVALID_JSON", "invalid_json")
    assert error["detail"][0]["loc"][0] == "body"


@pytest.mark.parametrize(("body", "loc"), WRONG_STEPS, ids=lambda part: json.dumps(part)[:60])
def test_a_wrong_field_of_a_step_is_named(client: httpx.Client, body: Any, loc: list[Any]) -> None:
    _names(client.post("/sessions/bad-requests/step", json=body), loc)
    _names(client.post("/step", json=body, headers={"X-Session-ID": "bad-requests"}), loc)


@pytest.mark.parametrize(("body", "loc"), WRONG_RESETS, ids=lambda part: json.dumps(part)[:60])
def test_a_wrong_field_of_a_reset_is_named(client: httpx.Client, body: Any, loc: list[Any]) -> None:
    _names(client.post("/sessions/bad-requests/reset", json=body), loc)
    _names(client.post("/reset", params={"session_id": "bad-requests"}, json=body), loc)


def test_a_wrong_reset_without_a_session_makes_none(client: httpx.Client) -> None:
    before = len(client.get("/sessions").json()["sessions"])
    answer = client.post("/reset", json={"seed": -1})
    assert answer.status_code == 422
    assert "set-cookie" not in answer.headers
    assert len(client.get("/sessions").json()["sessions"]) == before


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "json", "/"]
)
def test_a_body_of_another_content_type_is_refused(client: httpx.Client, content_type: str) -> None:
    headers = {"content-type": content_type}
    _names(client.post("/sessions/bad-requests/step", content=json.dumps(STEP), headers=headers), ["body"])


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/x+json"])
def test_json_by_any_of_its_names_is_read(client: httpx.Client, content_type: str) -> None:
    answer = client.post("/reset", content="{}", headers={"content-type": content_type})
    assert answer.status_code == 200


@pytest.mark.parametrize("key", ["k" * 257, "k" * 5000])
def test_an_idempotency_key_that_is_too_long_is_refused(client: httpx.Client, key: str) -> None:
    for path, body in (("/step", STEP), ("/reset", {})):
        answer = client.post("/sessions/bad-requests" + path, json=body, headers={"Idempotency-Key": key})
        _names(answer, ["header", "Idempotency-Key"])


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "", "1.5", "9" * 30])
def test_a_wrong_limit_is_named(client: httpx.Client, limit: str) -> None:
    _names(client.get("/sessions", params={"limit": limit}), ["query", "limit"])


@pytest.mark.parametrize("cursor", ["nonsense!", "\0", "ü", "x" * 5000, "-1", "0;0", '{"a":1}'])
def test_a_wrong_cursor_is_named_or_starts_nowhere_new(client: httpx.Client, cursor: str) -> None:
    _names(client.get("/sessions", params={"cursor": cursor}), ["query", "cursor"])


@pytest.mark.parametrize("session_id", BAD_IDS)
def test_a_malformed_session_id_is_refused_however_it_is_given(client: httpx.Client, session_id: str) -> None:
    in_path = f"/sessions/{quote(session_id, safe='')}"
    answers = [
        client.post(f"{in_path}/reset", json={}),
        client.post(f"{in_path}/step", json=STEP),
        client.get(f"{in_path}/state"),
        client.get(in_path),
        client.delete(in_path),
        client.post("/sessions", json={"session_id": session_id}),
        client.post("/reset", params={"session_id": session_id}, json={}),
        client.post("/step", params={"session_id": session_id}, json=STEP),
        client.get("/state", params={"session_id": session_id}),
    ]
    if session_id.strip():
        header = {b"X-Session-ID": session_id.encode()}
        answers += [client.get("/state", headers=header), client.post("/reset", json={}, headers=header)]
    if not set(session_id) & set(';\t"\\'):
        cookie = {b"cookie": b"metagame_session=" + session_id.encode()}
        answers += [client.get("/state", headers=cookie), client.post("/step", json=STEP, headers=cookie)]
    for answer in answers:
        error = _refused(answer, 400)
        assert (error["code"], error["reason"]) == ("VALIDATION_ERROR", "invalid_session_id")
        assert "session id" in error["detail"]


@pytest.mark.parametrize("session_id", BAD_IDS)
def test_a_malformed_session_id_opens_no_socket(echo_server: Server, session_id: str) -> None:
    quoted = quote(session_id, safe="")
    for path in (f"/ws?session_id={quoted}", f"/sessions/{quoted}/ws"):
        with open_socket(echo_server.ws_url, path) as refused:
            frame = json.loads(refused.recv(timeout=10))
            with pytest.raises(ConnectionClosed):
                refused.recv(timeout=10)
        assert frame["data"]["reason"] == "invalid_session_id"
        assert refused.close_code == 1000


def test_a_socket_never_reads_the_cookie(echo_server: Server) -> None:
    with open_socket(echo_server.ws_url, Cookie="metagame_session=a b") as socket:
        assert ask(socket, {"type": "state"})["type"] == "state"


@pytest.mark.parametrize("body", [{"session_id": 5}, {"session_id": []}, [], "x"])
def test_a_session_is_made_by_an_object_with_a_text_only(client: httpx.Client, body: Any) -> None:
    _refused(client.post("/sessions", json=body), 422)


@pytest.mark.parametrize(
    "path", ["/sessions//state", "/sessions/a/b/state", "/sessions/a%2Fb/state", "/reset/", "/../x"]
)
def test_a_path_that_is_none_of_ours_is_not_found(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in {307, 404}
    assert not INTERNAL.search(answer.text)


@pytest.mark.parametrize("path", ["/sessions/bad-requests/step", "/sessions/bad-requests/reset", "/sessions"])
def test_a_body_over_the_limit_is_refused_with_and_without_its_length(client: httpx.Client, path: str) -> None:
    error = _refused(client.post(path, content=b"x" * (MAX_BODY_BYTES + 1), headers=JSON), 413)
    assert (error["code"], error["reason"]) == ("VALIDATION_ERROR", "too_large")
    assert error["limit_bytes"] == MAX_BODY_BYTES
    chunks = (b" " * 65_536 for _ in range(17))
    error = _refused(client.post(path, content=chunks, headers=JSON), 413)
    assert error["limit_bytes"] == MAX_BODY_BYTES


def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(echo_server: Server) -> None:
    head = (
        "POST /sessions/announced/reset HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {10**12}\r\n\r\n"
    )
    url = httpx.URL(echo_server.url)
    with socket.create_connection((url.host, url.port), timeout=10) as raw:
        raw.sendall(head.encode())
        assert raw.recv(65_536).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_just_the_limit_is_read(client: httpx.Client) -> None:
    body = json.dumps({"session_id": "just"}).ljust(MAX_BODY_BYTES)
    assert client.post("/sessions", content=body, headers=JSON).status_code in {200, 201}


def test_a_long_body_gets_a_short_error(client: httpx.Client) -> None:
    for body in (
        {"action": {"message": "x"} | {f"field{number}": 1 for number in range(30_000)}},
        {"action": {"message": "x", "f" * 500_000: 1}},
        {"action": ["x"] * 100_000},
    ):
        _refused(client.post("/sessions/bad-requests/step", json=body), 422)


def _names(answer: httpx.Response, loc: list[Any]) -> None:
    error = _refused(answer, 422)
    assert error["code"] == "VALIDATION_ERROR"
    assert error["detail"][0]["loc"] == loc
    assert all(set(one) <= {"type", "loc", "msg", "input", "ctx"} for one in error["detail"])


def _refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.text) < LARGEST_ANSWER
    assert not INTERNAL.search(answer.text)
    error: dict[str, Any] = answer.json()
    return error
