"""The routes of OpenEnv's own page, each visitor in a session of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import httpx
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.behaviour.apps import running_app
from tests.games.pig import PigGame
from tests.servers import Server, run_server

READY = {"observation": {"metadata": {}, "echoed_message": "Meta Game environment ready!", "message_length": 0}}


@pytest.fixture
def visitors(echo_server: Server) -> Iterator[list[httpx.Client]]:
    with ExitStack() as stack:
        yield [stack.enter_context(httpx.Client(base_url=echo_server.url, trust_env=False)) for _ in range(2)]


def test_two_visitors_play_an_episode_each(visitors: list[httpx.Client]) -> None:
    for number, visitor in enumerate(visitors, 1):
        ready = visitor.post("/web/reset", json={"episode_id": f"episode-{number}"})
        assert ready.json() == READY | {"reward": 0.0, "done": False}
        cookie = ready.headers["set-cookie"]
        assert cookie.startswith("metagame_session=")
        assert "; HttpOnly; SameSite=Lax" in cookie
    first, second = visitors
    for step, body in enumerate(({"action": {"message": "abc"}}, {"message": "abc"}), 1):
        metadata = {"original_message": "abc", "step": step}
        assert first.post("/web/step", json=body).json() == {
            "observation": {"metadata": metadata, "echoed_message": "abc", "message_length": 3},
            "reward": 0.3,
            "done": False,
            "metadata": metadata,
        }
    assert first.get("/web/state").json() == {"episode_id": "episode-1", "step_count": 2}
    assert second.get("/web/state").json() == {"episode_id": "episode-2", "step_count": 0}


def test_the_body_of_a_reset_may_be_missing(visitors: list[httpx.Client]) -> None:
    assert visitors[0].post("/web/reset").json()["reward"] == 0.0


def test_a_message_beside_an_action_counts(visitors: list[httpx.Client]) -> None:
    visitors[0].post("/web/reset")
    answer = visitors[0].post("/web/step", json={"message": "ab", "action": {"message": "abcdef"}})
    assert answer.json()["reward"] == 0.2


def test_the_session_may_also_be_named_as_elsewhere(visitors: list[httpx.Client]) -> None:
    name = uuid4().hex
    assert visitors[0].post("/web/reset", headers={"X-Session-ID": name}).headers["x-session-id"] == name
    assert visitors[1].post(f"/web/step?session_id={name}", json={"message": "abc"}).json()["reward"] == 0.3
    assert visitors[0].get(f"/sessions/{name}/state").json()["step_count"] == 1


@pytest.mark.parametrize("path", ["/metadata", "/web/metadata"])
def test_the_metadata_is_compressed_for_who_takes_that(visitors: list[httpx.Client], path: str) -> None:
    small, whole = (visitors[0].get(path, headers={"Accept-Encoding": taken}) for taken in ("gzip", "identity"))
    assert small.json() == whole.json()
    assert (small.headers["content-encoding"], small.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert "content-encoding" not in whole.headers
    assert int(small.headers["content-length"]) * 2 < int(whole.headers["content-length"])


def test_the_metadata_is_the_environments(visitors: list[httpx.Client]) -> None:
    assert visitors[0].get("/web/metadata").json() == visitors[0].get("/metadata").json()


def test_a_step_sent_again_with_its_key_or_request_id_happens_once(visitors: list[httpx.Client]) -> None:
    [visitor, _] = visitors
    visitor.post("/web/reset")
    for asked in ({"headers": {"Idempotency-Key": "one"}}, {"json": {"message": "abc", "request_id": "two"}}):
        both = [visitor.post("/web/step", **({"json": {"message": "abc"}} | asked)) for _ in range(2)]  # type: ignore[arg-type]
        assert both[0].json() == both[1].json()
    assert both[0].json()["request_id"] == "two"
    assert visitor.get("/web/state").json()["step_count"] == 2
    expected = {"message": "abc", "expect": {"episode_id": "another", "step_count": 2}}
    assert visitor.post("/web/step", json=expected).json()["reason"] == "session_moved"


def test_a_reset_sent_again_by_a_balancer_finds_the_session_that_it_made(visitors: list[httpx.Client]) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    made = {visitor.post("/web/reset", headers=headers).headers["x-session-id"] for visitor in visitors}
    assert len(made) == 1


WRONG: dict[str, tuple[str, dict[str, Any], int, str, str]] = {
    "a step without a session": ("/web/step", {"json": {"message": "abc"}}, 409, "SESSION_ERROR", "session_lost"),
    "a step of a session that ended": (
        "/web/step",
        {"json": {"message": "abc"}, "headers": {"X-Session-ID": "gone"}},
        *(409, "SESSION_ERROR", "session_lost"),
    ),
    "a session id that is none": (
        "/web/reset",
        {"headers": {"Cookie": "metagame_session=a/b"}},
        *(400, "VALIDATION_ERROR", "invalid_session_id"),
    ),
    "no JSON": (
        "/web/step",
        {"content": "{", "headers": {"Content-Type": "application/json"}},
        *(422, "INVALID_JSON", "invalid_json"),
    ),
    "no JSON object": ("/web/step", {"json": []}, 422, "VALIDATION_ERROR", "invalid_request"),
    "no body": ("/web/step", {}, 422, "VALIDATION_ERROR", "invalid_request"),
    "another type": (
        "/web/step",
        {"content": "{}", "headers": {"Content-Type": "text/plain"}},
        *(422, "VALIDATION_ERROR", "invalid_request"),
    ),
    "a seed that is none": ("/web/reset", {"json": {"seed": -1}}, 422, "VALIDATION_ERROR", "invalid_request"),
    "a body that is too large": (
        "/web/step",
        {"json": {"message": "x" * 1_048_576}},
        *(413, "VALIDATION_ERROR", "too_large"),
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_answered_as_elsewhere(visitors: list[httpx.Client], case: str) -> None:
    path, asked, status, code, reason = WRONG[case]
    answer = visitors[0].post(path, **asked)
    assert (answer.status_code, answer.json()["code"], answer.json()["reason"]) == (status, code, reason)


@pytest.mark.parametrize("body", [{}, {"action": {}}, {"message": 5}, {"action": {"message": "a", "bogus": 1}}])
def test_an_action_that_the_game_does_not_take_names_the_field(
    visitors: list[httpx.Client], body: dict[str, Any]
) -> None:
    visitors[0].post("/web/reset")
    answer = visitors[0].post("/web/step", json=body)
    assert (answer.status_code, answer.json()["reason"]) == (422, "invalid_action")
    assert answer.json()["detail"][0]["loc"] in (["message"], ["bogus"])
    assert visitors[0].get("/web/state").json()["step_count"] == 0


def test_a_state_without_a_session_is_that_of_none_and_of_one_that_ended_is_not_found(
    visitors: list[httpx.Client],
) -> None:
    assert visitors[0].get("/web/state").json() == {"episode_id": None, "step_count": 0}
    gone = visitors[0].get("/web/state", headers={"X-Session-ID": "gone"})
    assert (gone.status_code, gone.json()["reason"]) == (404, "session_lost")


def test_a_full_pool_refuses_a_visitor_and_says_when_to_come_again() -> None:
    with run_server(METAGAME_MAX_SESSIONS="1") as server:
        assert httpx.post(f"{server.url}/web/reset", trust_env=False).status_code == 200
        full = httpx.post(f"{server.url}/web/reset", trust_env=False)
    assert (full.status_code, full.json()["code"], full.headers["retry-after"]) == (503, "CAPACITY_REACHED", "1")


def test_another_game_answers_there_too() -> None:
    with running_app(PigGame()) as url, httpx.Client(base_url=url, trust_env=False) as visitor:
        visitor.post("/web/reset", json={"seed": 7, "target": 12})
        rolled = visitor.post("/web/step", json={"action": {"move": "roll", "dice": 2}}).json()
        assert len(rolled["observation"]["rolled"]) == 2
        assert visitor.post("/web/reset", json={"target": 0}).status_code == 422


def described_body(url: str, path: str) -> Draft202012Validator:
    route = httpx.get(f"{url}/openapi.json", trust_env=False).json()["paths"][path]["post"]
    return Draft202012Validator(route["requestBody"]["content"]["application/json"]["schema"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"message": "abc"}, 200),
        ({"message": ""}, 200),
        ({"action": {"message": "abc"}}, 200),
        ({"message": "abc", "action": {"message": "abcdef"}}, 200),
        ({"message": "abc", "request_id": "one"}, 200),
        ({}, 422),
        ({"message": 5}, 422),
        ({"action": {}}, 422),
        ({"request_id": "two"}, 422),
    ],
)
def test_openapi_says_what_a_step_takes(
    echo_server: Server, visitors: list[httpx.Client], body: dict[str, Any], status: int
) -> None:
    visitors[0].post("/web/reset")
    assert visitors[0].post("/web/step", json=body).status_code == status
    assert described_body(echo_server.url, "/web/step").is_valid(body) is (status == 200)


def test_openapi_says_of_other_steps_and_games_that_an_action_is_needed(echo_server: Server) -> None:
    assert not described_body(echo_server.url, "/step").is_valid({"message": "abc"})
    with running_app(PigGame()) as url:
        described = described_body(url, "/web/step")
    assert described.is_valid({"action": {"move": "roll"}})
    assert not described.is_valid({"message": "roll"})
