"""Bad frames: each costs an error answer that names the field, never the session, never the socket."""

import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.servers import Server
from tests.wire.sockets import INTERNAL, ask, open_socket, step_number

MAX_FRAME_BYTES = 1_048_576
LARGEST_ANSWER = 20_000
"""No error answer is longer than this, however long the frame."""

NOT_JSON: dict[str, str | bytes] = {
    "an open brace": "{bad",
    "nothing": "",
    "blanks": " \n\t ",
    "a bare word": "hello",
    "single quotes": "{'type': 'state'}",
    "a frame cut short": '{"type":"step","data":{"message":"x"}',
    "two frames in one": '{"type":"state"}{"type":"state"}',
    "a byte order mark": '\ufeff{"type":"state"}',
    "a trailing comma": '{"type":"state",}',
    "NaN": '{"type":"reset","data":{"seed":NaN}}',
    "infinity": '{"type":"reset","data":{"seed":-Infinity}}',
    "a number out of range": '{"type":"reset","data":{"seed":1e999}}',
    "a number of 10,000 digits": '{"type":"reset","data":{"seed":' + "9" * 10_000 + "}}",
    "a lone surrogate": r'{"type":"step","data":{"message":"\ud800"}}',
    "a lone surrogate the other way round": r'{"type":"step","data":{"message":"\udc00\ud800"}}',
    "a lone surrogate in a name": r'{"type":"step","data":{"message":"x","\ud800":1}}',
    "a lone surrogate in a type": r'{"type":"\udfff"}',
    "a raw NUL": '{"type":"step","data":{"message":"a\0b"}}',
    "a raw line end in a string": '{"type":"step","data":{"message":"a\nb"}}',
    "a NUL frame": "\0",
    "100,000 open brackets": "[" * 100_000,
    "arrays 100,000 deep": "[" * 100_000 + "]" * 100_000,
    "an action 2,000 deep": '{"type":"step","data":{"message":"x","metadata":' + '{"a":' * 2000 + "1" + "}" * 2002,
    "a binary frame": b'{"type":"state"}',
    "an empty binary frame": b"",
    "a binary frame that is no text": b"\xff\xfe\x00",
}
NOT_AN_OBJECT = ["[]", "[1,2]", '"hi"', "5", "-0.5", "1e308", "true", "null", "[" * 50 + "]" * 50]
UNKNOWN_TYPES: list[Any] = [
    {},
    {"data": {}},
    {"type": "nope"},
    {"type": ""},
    {"type": "RESET"},
    {"type": None},
    {"type": 5},
    {"type": ["step"]},
    {"type": {"step": 1}},
    {"type": "observation", "data": {}},
    {"type": "t" * 200_000},
    {"type": "a\0b"},
]
WRONG_FIELDS: list[tuple[Any, list[Any]]] = [
    ({"type": "step"}, ["data"]),
    ({"type": "step", "data": None}, ["data"]),
    ({"type": "step", "data": [1]}, ["data"]),
    ({"type": "step", "data": "hi"}, ["data"]),
    ({"type": "step", "data": {}}, ["message"]),
    ({"type": "step", "data": {"message": None}}, ["message"]),
    ({"type": "step", "data": {"message": 5}}, ["message"]),
    ({"type": "step", "data": {"message": 1e308}}, ["message"]),
    ({"type": "step", "data": {"message": ["x"]}}, ["message"]),
    ({"type": "step", "data": {"message": {"x": 1}}}, ["message"]),
    ({"type": "step", "data": {"message": "x" * 65_537}}, ["message"]),
    ({"type": "step", "data": {"message": "x" * 200_000}}, ["message"]),
    ({"type": "step", "data": {"message": "x", "bogus": 1}}, ["bogus"]),
    ({"type": "step", "data": {"message": "x", "metadata": 5}}, ["metadata"]),
    ({"type": "step", "data": {"message": "x", "metadata": None}}, ["metadata"]),
    ({"type": "step", "data": {"action": {"message": "x"}}}, ["message"]),
    ({"type": "step", "data": {"message": "x"}, "foo": 1}, ["foo"]),
    ({"type": "step", "data": {"message": "x"}, "session_id": "other"}, ["session_id"]),
    ({"type": "step", "data": {"message": "x"}, "request_id": 5}, ["request_id"]),
    ({"type": "step", "data": {"message": "x"}, "request_id": ""}, ["request_id"]),
    ({"type": "step", "data": {"message": "x"}, "request_id": "r" * 257}, ["request_id"]),
    ({"type": "step", "data": {"message": "x"}, "request_id": ["r"]}, ["request_id"]),
    ({"type": "step", "data": {"message": "x"}, "expect": 5}, ["expect"]),
    ({"type": "step", "data": {"message": "x"}, "expect": []}, ["expect"]),
    ({"type": "step", "data": {"message": "x"}, "expect": {}}, ["expect", "episode_id"]),
    ({"type": "step", "data": {"message": "x"}, "expect": {"episode_id": "e"}}, ["expect", "step_count"]),
    (
        {"type": "step", "data": {"message": "x"}, "expect": {"episode_id": 5, "step_count": 1}},
        ["expect", "episode_id"],
    ),
    (
        {"type": "step", "data": {"message": "x"}, "expect": {"episode_id": "e", "step_count": -1}},
        ["expect", "step_count"],
    ),
    (
        {"type": "step", "data": {"message": "x"}, "expect": {"episode_id": "e", "step_count": "many"}},
        ["expect", "step_count"],
    ),
    (
        {"type": "step", "data": {"message": "x"}, "expect": {"episode_id": "e", "step_count": 1, "foo": 1}},
        ["expect", "foo"],
    ),
    ({"type": "reset", "data": None}, ["data"]),
    ({"type": "reset", "data": []}, ["data"]),
    ({"type": "reset", "data": "x"}, ["data"]),
    ({"type": "reset", "data": {}, "foo": 1}, ["foo"]),
    ({"type": "reset", "data": {"seed": "abc"}}, ["seed"]),
    ({"type": "reset", "data": {"seed": -1}}, ["seed"]),
    ({"type": "reset", "data": {"seed": 1.5}}, ["seed"]),
    ({"type": "reset", "data": {"seed": []}}, ["seed"]),
    ({"type": "reset", "data": {"seed": 2**63}}, ["seed"]),
    ({"type": "reset", "data": {"seed": 2**64}}, ["seed"]),
    ({"type": "reset", "data": {"seed": 10**100}}, ["seed"]),
    ({"type": "reset", "data": {"seed": 1e300}}, ["seed"]),
    ({"type": "reset", "data": {"episode_id": 5}}, ["episode_id"]),
    ({"type": "reset", "data": {"episode_id": ""}}, ["episode_id"]),
    ({"type": "reset", "data": {"episode_id": "e" * 257}}, ["episode_id"]),
    ({"type": "reset", "request_id": {}}, ["request_id"]),
    ({"type": "reset", "expect": "here"}, ["expect"]),
    ({"type": "state", "data": {}}, ["data"]),
    ({"type": "state", "expect": {"episode_id": "e", "step_count": 1}}, ["expect"]),
    ({"type": "state", "request_id": 5}, ["request_id"]),
    ({"type": "close", "data": {}}, ["data"]),
]
PATHS = ["/ws", "/sessions/bad-input/ws"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", NOT_JSON)
def test_a_frame_that_is_not_json_costs_an_error_and_nothing_else(echo_server: Server, path: str, name: str) -> None:
    error = _survived(echo_server, path, NOT_JSON[name])
    assert (error["code"], error["reason"]) == ("INVALID_JSON", "invalid_json")
    assert error["message"].startswith("Invalid JSON: ")


@pytest.mark.parametrize("frame", NOT_AN_OBJECT)
def test_a_frame_that_is_no_object_costs_an_error_and_nothing_else(echo_server: Server, frame: str) -> None:
    error = _survived(echo_server, "/ws", frame)
    assert (error["code"], error["reason"]) == ("VALIDATION_ERROR", "invalid_request")
    assert error["message"].startswith("Invalid message: a frame is a JSON object, not ")


@pytest.mark.parametrize("frame", UNKNOWN_TYPES, ids=lambda frame: json.dumps(frame)[:40])
def test_a_frame_of_unknown_type_costs_an_error_and_nothing_else(echo_server: Server, frame: Any) -> None:
    error = _survived(echo_server, "/ws", frame)
    assert (error["code"], error["reason"]) == ("UNKNOWN_TYPE", "unknown_frame_type")
    assert error["message"].startswith("Unknown message type: ")


@pytest.mark.parametrize(("frame", "loc"), WRONG_FIELDS, ids=lambda part: json.dumps(part)[:70])
def test_a_wrong_field_is_named(echo_server: Server, frame: Any, loc: list[Any]) -> None:
    error = _survived(echo_server, "/ws", frame)
    assert error["code"] == "VALIDATION_ERROR"
    assert error["reason"] in {"invalid_request", "invalid_action"}
    assert error["errors"][0]["loc"] == loc
    assert all(set(one) <= {"type", "loc", "msg", "input", "ctx"} for one in error["errors"])


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param({"type": "state"} | {f"field{number}": 1 for number in range(30_000)}, id="30,000 extra fields"),
        pytest.param({"type": "state", "f" * 500_000: 1}, id="an extra field of 500,000 characters"),
        pytest.param({"type": "step", "data": {"message": "x", "f" * 500_000: 1}}, id="the same in an action"),
        pytest.param({"type": "step", "data": {"message": ["x"] * 200_000}}, id="a long list"),
        pytest.param({"type": "step", "data": {"message": {"x" * 300_000: 1}}}, id="a long name inside a field"),
        pytest.param({"type": "reset", "data": {"seed": "9" * 4000}}, id="a seed of many digits, as text"),
        pytest.param({"type": "step", "data": {"message": "x"}, "expect": {"f" * 9000: 1}}, id="a long name in expect"),
    ],
)
def test_a_long_frame_gets_a_short_error(echo_server: Server, frame: Any) -> None:
    assert _survived(echo_server, "/ws", frame)["code"] == "VALIDATION_ERROR"


@pytest.mark.parametrize("depth", [60, 150, 260, 600, 1000, 1500])
@pytest.mark.parametrize("named", [False, True], ids=["without a request id", "with a request id"])
@pytest.mark.parametrize("kind", ["step metadata", "reset option", "message", "type", "data", "request_id", "expect"])
def test_deep_nesting_is_taken_or_refused_but_breaks_nothing(
    echo_server: Server, kind: str, named: bool, depth: int
) -> None:
    nested = '{"a":[' * (depth // 2) + "1" + "]}" * (depth // 2)
    frames = {
        "step metadata": '{"type":"step","data":{"message":"x","metadata":NESTED}',
        "reset option": '{"type":"reset","data":{"option":NESTED}',
        "message": '{"type":"step","data":{"message":NESTED}',
        "type": '{"type":NESTED',
        "data": '{"type":"step","data":[NESTED]',
        "request_id": '{"type":"state","request_id":NESTED',
        "expect": '{"type":"reset","expect":NESTED',
    }
    frame = frames[kind].replace("NESTED", nested) + (',"request_id":"r"}' if named and kind != "request_id" else "}")
    with open_socket(echo_server.ws_url) as socket:
        ask(socket, {"type": "reset"})
        answer = ask(socket, frame)
        assert answer["type"] == "error" or kind in {"step metadata", "reset option"}
        assert answer["type"] == "observation" or not INTERNAL.search(json.dumps(answer))
        assert ask(socket, {"type": "reset"})["type"] == "observation"
        assert step_number(socket) == 1


@pytest.mark.parametrize(
    "message", ["a\0b", "\0", "", "\U00010000" * 10, "\u2028\u2029", "\ufffe\uffff", "e\u0301", "\x7f"]
)
def test_any_text_is_a_message(echo_server: Server, message: str) -> None:
    with open_socket(echo_server.ws_url) as socket:
        ask(socket, {"type": "reset"})
        data = ask(socket, {"type": "step", "data": {"message": message}})["data"]
    assert data["observation"]["echoed_message"] == message
    assert (data["observation"]["message_length"], data["reward"]) == (len(message), len(message) / 10)


def test_the_longest_message_fits_however_it_is_escaped(echo_server: Server) -> None:
    message = "😀" * 65_536
    with open_socket(echo_server.ws_url) as socket:
        ask(socket, {"type": "reset"})
        frame = json.dumps({"type": "step", "data": {"message": message}})
        assert 786_000 < len(frame) < MAX_FRAME_BYTES
        data = ask(socket, frame)["data"]
    assert data["observation"]["echoed_message"] == message
    assert data["reward"] == 6553.6


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param("x" * (MAX_FRAME_BYTES + 1), id="one byte too many"),
        pytest.param("é" * (MAX_FRAME_BYTES // 2 + 1), id="few characters, many bytes"),
        pytest.param(b"\0" * (MAX_FRAME_BYTES + 1), id="binary"),
        pytest.param(json.dumps({"type": "step", "data": {"message": "x" * 5_000_000}}), id="5 MB"),
        pytest.param(["x" * 100_000] * 11, id="in fragments"),
    ],
)
def test_a_frame_over_the_limit_closes_the_socket_and_leaves_the_session(
    echo_server: Server, frame: str | bytes | list[str]
) -> None:
    path = "/sessions/oversize/ws"
    with open_socket(echo_server.ws_url, path) as socket:
        ask(socket, {"type": "reset", "data": {"episode_id": "e"}})
        assert step_number(socket) == 1
        with pytest.raises(ConnectionClosed):
            _send_and_wait(socket, frame)
        assert socket.close_code == 1009
    with open_socket(echo_server.ws_url, path) as socket:
        assert ask(socket, {"type": "state"})["data"] == {"episode_id": "e", "step_count": 1}
        assert step_number(socket) == 2


def test_a_frame_of_just_the_limit_is_read(echo_server: Server) -> None:
    frame = '{"type":"state"}'
    with open_socket(echo_server.ws_url) as socket:
        assert ask(socket, frame + " " * (MAX_FRAME_BYTES - len(frame)))["type"] == "state"


def test_text_that_is_not_utf8_breaks_the_protocol_and_leaves_the_session(echo_server: Server) -> None:
    path = "/sessions/not-utf8/ws"
    with open_socket(echo_server.ws_url, path) as socket:
        ask(socket, {"type": "reset", "data": {"episode_id": "e"}})
        socket.send(b'{"type":"step","data":{"message":"\xed\xa0\x80"}}', text=True)
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
        assert socket.close_code == 1007
    with open_socket(echo_server.ws_url, path) as socket:
        assert ask(socket, {"type": "state"})["data"] == {"episode_id": "e", "step_count": 0}


def test_an_error_answer_echoes_the_request_id_if_it_is_one(echo_server: Server) -> None:
    with open_socket(echo_server.ws_url) as socket:
        assert ask(socket, {"type": "nope", "request_id": "r"})["request_id"] == "r"
        assert ask(socket, {"type": "step", "data": 5, "request_id": "r"})["request_id"] == "r"
        assert "request_id" not in ask(socket, {"type": "step", "data": 5, "request_id": 5})
        assert "request_id" not in ask(socket, {"type": "nope", "request_id": "r" * 1000})


def _survived(server: Server, path: str, frame: Any) -> dict[str, Any]:
    """The data of the error frame, after which the session goes on as if nothing had been sent."""
    with open_socket(server.ws_url, path) as socket:
        ask(socket, {"type": "reset", "data": {"episode_id": "e"}})
        assert step_number(socket) == 1
        answer = ask(socket, frame)
        assert ask(socket, {"type": "state"})["data"] == {"episode_id": "e", "step_count": 1}
        assert step_number(socket) == 2
        _close(socket)
    assert answer["type"] == "error"
    text = json.dumps(answer, ensure_ascii=False)
    assert len(text) < LARGEST_ANSWER
    assert not INTERNAL.search(text)
    error: dict[str, Any] = answer["data"]
    return error


def _send_and_wait(socket: Any, frame: str | bytes | list[str]) -> None:
    socket.send(frame)
    socket.recv(timeout=10)


def _close(socket: Any) -> None:
    """End the session, so that the next test makes its own."""
    socket.send('{"type":"close"}')
    with pytest.raises(ConnectionClosed):
        socket.recv(timeout=10)
    assert socket.close_code == 1000
