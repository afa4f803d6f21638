"""What the client does when HTTP goes wrong on the way."""

import json
from collections import deque
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from metagame import (
    AsyncMetaGameEnv,
    CapacityReached,
    HttpTransport,
    InvalidRequest,
    LocalTransport,
    MetaGameError,
    ProtocolError,
    SessionMoved,
    TooLarge,
    Unavailable,
)
from metagame.client.shapes import in_words
from metagame.client.transport import parse_base_url
from metagame.errors import outward
from metagame.games import Observation
from metagame.wire.answers import error_body, observation_body, state_body
from metagame.wire.requests import CloseRequest, Request, StateRequest, decode_reset_body, decode_step_body

pytestmark = pytest.mark.anyio
HELLO = {"message": "hello"}
Fault = Callable[[httpx.Request], httpx.Response]


class Wire:
    """A server behind httpx; `faults` stand before it, one a request, and `after` behind it."""

    def __init__(self) -> None:
        self.game = LocalTransport()
        self.faults: deque[Fault | None] = deque()
        self.lost_after: int = 0
        self.requests: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.faults and (fault := self.faults.popleft()) is not None:
            return fault(request)
        response = await self.answer(request)
        if self.lost_after:
            self.lost_after -= 1
            message = "the connection broke"
            raise httpx.ReadError(message)
        return response

    async def answer(self, request: httpx.Request) -> httpx.Response:
        _, _, name, *verb = request.url.path.strip("/").split("/")
        decoded: Request
        try:
            match verb:
                case ["reset"]:
                    decoded = decode_reset_body(request.content)
                case ["step"]:
                    decoded = decode_step_body(request.content)
                case ["state"]:
                    decoded = StateRequest()
                case _:
                    decoded = CloseRequest()
            answer = await self.game.exchange(name, decoded)
        except MetaGameError as error:
            return httpx.Response(outward(error).status, content=error_body(error))
        if answer is None:
            return httpx.Response(204)
        if isinstance(answer, Observation):
            assert not isinstance(decoded, CloseRequest)
            return httpx.Response(200, content=observation_body(answer, decoded.request_id))
        return httpx.Response(200, content=state_body(answer))


@pytest.fixture
def wire() -> Wire:
    return Wire()


def client(wire: Wire, **options: float) -> AsyncMetaGameEnv:
    address, _ = parse_base_url("http://somewhere/prefix")
    transport = HttpTransport(address, headers={"X-Team": "a"}, http_transport=httpx.MockTransport(wire))
    return AsyncMetaGameEnv(transport=transport, deadline_s=options.get("deadline_s", 30), capacity_wait_s=0)


def status(code: int, content: bytes = b"", **headers: str) -> Fault:
    return lambda _: httpx.Response(code, content=content, headers=headers)


def refuse(_: httpx.Request) -> httpx.Response:
    message = "All connection attempts failed"
    raise httpx.ConnectError(message)


async def test_requests_name_the_session_in_the_path_and_carry_the_headers(wire: Wire) -> None:
    wire.game = LocalTransport()
    env = client(wire)
    await env.reset()
    await env.step(HELLO)
    await env.state()
    await env.close()
    paths = [(request.method, request.url.path.removeprefix("/prefix")) for request in wire.requests]
    base = f"/sessions/{env.session_id}"
    assert paths == [("POST", f"{base}/reset"), ("POST", f"{base}/step"), ("GET", f"{base}/state"), ("DELETE", base)]
    assert {request.headers["X-Team"] for request in wire.requests} == {"a"}
    assert wire.requests[0].headers["User-Agent"].startswith("metagame/")


@pytest.mark.parametrize(
    "fault", [refuse, status(502), status(503), status(504), status(429)], ids=["refused", "502", "503", "504", "429"]
)
async def test_a_step_that_does_not_get_through_is_sent_again(wire: Wire, fault: Fault) -> None:
    env = client(wire)
    await env.reset()
    wire.faults.extend([fault, fault])
    assert (await env.step(HELLO)).metadata["step"] == 1
    first, second, third = (request.content for request in wire.requests[1:])
    assert first == second == third


@pytest.mark.parametrize("code", [502, 503, 504])
async def test_a_proxys_error_leaves_open_whether_the_step_counted(wire: Wire, code: int) -> None:
    env = client(wire, deadline_s=0.2)
    await env.reset()
    wire.faults.extend([status(code, b"<html>Bad Gateway</html>")] * 1000)
    with pytest.raises(Unavailable, match="may have counted all the same") as caught:
        await env.step(HELLO)
    assert caught.value.fields == {"retryable": False, "outcome": "unknown"}
    wire.faults.clear()
    with pytest.raises(SessionMoved, match="not known at which step"):
        await env.step(HELLO)
    assert (await env.state()).step_count == 0
    assert (await env.step(HELLO)).metadata["step"] == 1


@pytest.mark.parametrize("fault", [refuse, status(429, b"<html>")], ids=["refused", "429"])
async def test_what_certainly_went_no_further_was_not_carried_out(wire: Wire, fault: Fault) -> None:
    env = client(wire, deadline_s=0.2)
    await env.reset()
    wire.faults.extend([fault] * 1000)
    with pytest.raises(Unavailable, match="was not carried out") as caught:
        await env.step(HELLO)
    assert caught.value.fields == {"retryable": True}
    wire.faults.clear()
    assert (await env.step(HELLO)).metadata["step"] == 1


@pytest.mark.parametrize("code", [502, 503, 504])
@pytest.mark.parametrize(
    ("said", "words", "fields"),
    [
        ({"retryable": True}, "was not carried out", {"retryable": True}),
        (
            {"retryable": True, "outcome": "unknown"},
            "may have counted all the same",
            {"retryable": False, "outcome": "unknown"},
        ),
    ],
    ids=["nothing done", "unknown"],
)
async def test_a_balancers_error_in_our_form_is_believed(
    wire: Wire, code: int, said: dict[str, Any], words: str, fields: dict[str, Any]
) -> None:
    env = client(wire, deadline_s=0.2)
    await env.reset()
    wire.faults.extend([status(code, error_body(Unavailable("The balancer's words.", **said)))] * 1000)
    with pytest.raises(Unavailable, match=words) as caught:
        await env.step(HELLO)
    assert caught.value.fields == fields
    assert "The balancer's words." in str(caught.value)


async def test_a_request_says_by_a_header_that_it_may_be_sent_again(wire: Wire) -> None:
    env = client(wire)
    await env.reset()
    wire.faults.append(status(502))
    await env.step(HELLO)
    await env.state()
    *posted, asked = wire.requests
    assert [json.loads(one.content)["request_id"] for one in posted] == [
        one.headers["Idempotency-Key"] for one in posted
    ]
    assert [one.headers["Idempotency-Key"] for one in posted[1:]] == [posted[1].headers["Idempotency-Key"]] * 2
    assert "Idempotency-Key" not in asked.headers


async def test_a_step_whose_answer_is_lost_happens_once(wire: Wire) -> None:
    env = client(wire)
    await env.reset()
    wire.lost_after = 2
    assert (await env.step(HELLO)).metadata["step"] == 1
    assert (await env.state()).step_count == 1


async def test_an_error_that_may_be_retried_is_and_retry_after_is_kept_to(wire: Wire) -> None:
    env = client(wire)
    await env.reset()
    body = error_body(Unavailable("away", retryable=True))
    wire.faults.append(status(503, body, **{"Retry-After": "0.05"}))
    assert (await env.step(HELLO)).metadata["step"] == 1
    wire.faults.append(status(503, body, **{"Retry-After": "3600"}))
    with pytest.raises(Unavailable, match="was not carried out"):
        await env.step(HELLO)
    assert (await env.step(HELLO)).metadata["step"] == 2


async def test_an_error_that_may_not_be_retried_is_raised_at_once(wire: Wire) -> None:
    env = client(wire)
    await env.reset()
    for error in (
        Unavailable("may have counted", retryable=False, outcome="unknown"),
        CapacityReached("full", active_sessions=1, max_sessions=1),
        TooLarge("too large", limit_bytes=5),
    ):
        wire.faults.append(status(outward(error).status, error_body(error)))
        sent = len(wire.requests)
        with pytest.raises(type(error)) as caught:
            await env.step(HELLO)
        assert caught.value.fields == error.fields
        assert len(wire.requests) == sent + 1
        await env.state()


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (status(401), InvalidRequest, "headers="),
        (status(403), InvalidRequest, "headers="),
        (status(404, b'{"detail":"Not Found"}'), ProtocolError, "not a Metagame server"),
        (status(302, Location="/login"), ProtocolError, "302"),
        (status(200, b"<html>"), ProtocolError, "base_url"),
        (status(200, b"{}"), ProtocolError, "base_url"),
        (status(200, observation_body(Observation({}), "another")), ProtocolError, "another request"),
        (status(200, b'{"episode_id":null,"step_count":"x"}'), ProtocolError, "base_url"),
    ],
)
async def test_what_is_no_answer_of_ours_is_an_error_that_says_so(
    wire: Wire, fault: Fault, kind: type[Exception], words: str
) -> None:
    env = client(wire)
    wire.faults.append(fault)
    with pytest.raises(kind, match=words):
        await env.reset()
    assert len(wire.requests) == 1


@pytest.mark.parametrize("said", ["Server disconnected without sending a response.", "The end. ", "no stop"])
async def test_what_another_says_ends_within_our_sentence(wire: Wire, said: str) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.RemoteProtocolError(said)

    wire.faults.extend([fail] * 1000)
    with pytest.raises(Unavailable) as told:
        await client(wire, deadline_s=0.2).reset()
    assert f"within 0.2 s ({said.strip(' .')}). " in told.value.message


async def test_pydantics_words_end_within_our_sentence() -> None:
    errors = [{"loc": ["action", "message"], "msg": "It is too long."}, {"loc": ["seed"], "msg": "It is odd."}]
    assert in_words(errors) == "action.message: It is too long; seed: It is odd"


async def test_a_close_that_does_not_get_through_is_no_error(wire: Wire) -> None:
    env = client(wire)
    await env.reset()
    wire.faults.append(refuse)
    await env.close()
    assert json.loads(wire.requests[0].content)["expect"] == {"episode_id": None, "step_count": 0}
