"""Sessions as resources, and how HTTP answers name them."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from metagame.core.session import SESSION_ID
from tests.behaviour.apps import Pool, running_pool
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.anyio

STEP = {"action": {"message": "one"}}
JSON = {"content-type": "application/json"}
COOKIE = "metagame_session"


@pytest.fixture(scope="module", params=["memory", "redis"])
def pool(request: pytest.FixtureRequest, redis: RedisServer) -> Iterator[Pool]:
    memory = request.param == "memory"
    with running_pool(1 if memory else 2, redis_url=None if memory else f"{redis.url}/2") as running:
        yield running


@pytest.fixture
async def http(pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    """A client that keeps no cookies, and finds and leaves the pool empty."""
    async with httpx.AsyncClient(base_url=pool.url(0), trust_env=False) as client:
        yield client
        for item in (await client.get("/sessions?limit=1000")).json()["sessions"]:
            await client.delete(f"/sessions/{item['session_id']}")


@pytest.fixture
async def other(pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    """The same of another worker, where there is one."""
    async with httpx.AsyncClient(base_url=pool.url(1), trust_env=False) as client:
        yield client


async def place(http: httpx.AsyncClient, session_id: str) -> tuple[Any, Any]:
    state = (await http.get(f"/sessions/{session_id}/state")).json()
    return state["episode_id"], state["step_count"]


async def test_making_a_session_is_new_once_and_found_again(http: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    made = await http.post("/sessions", json={"session_id": "mine"})
    found = await other.post("/sessions", json={"session_id": "mine"})
    assert (made.status_code, found.status_code) == (201, 200)
    assert made.headers["x-session-id"] == found.headers["x-session-id"] == "mine"
    assert made.json().keys() == {
        "session_id",
        "episode_id",
        "step_count",
        "generation",
        "attached",
        "expires_in_s",
    }
    assert made.json() | {"expires_in_s": 0} == found.json() | {"expires_in_s": 0}
    assert made.json() | {"expires_in_s": 0} == {
        "session_id": "mine",
        "episode_id": None,
        "step_count": 0,
        "generation": 1,
        "attached": False,
        "expires_in_s": 0,
    }
    assert 3590 < made.json()["expires_in_s"] <= 3600


async def test_a_session_that_is_found_is_left_as_it_is(http: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    await http.post("/sessions/mine/reset", json={"episode_id": "e"})
    await http.post("/sessions/mine/step", json=STEP)
    found = await other.post("/sessions", json={"session_id": "mine"})
    assert found.status_code == 200
    assert (found.json()["episode_id"], found.json()["step_count"], found.json()["generation"]) == ("e", 1, 2)


async def test_a_session_without_a_name_gets_one_of_128_random_bits(http: httpx.AsyncClient) -> None:
    names = [(await http.post("/sessions")).json()["session_id"] for _ in range(3)]
    names += [(await http.post("/sessions", json={})).headers["x-session-id"]]
    assert len(set(names)) == 4
    assert all(len(name) == 32 and SESSION_ID.fullmatch(name) for name in names)


async def test_a_made_session_takes_steps_after_its_first_reset_only(http: httpx.AsyncClient) -> None:
    await http.post("/sessions", json={"session_id": "mine"})
    refused = await http.post("/sessions/mine/step", json=STEP)
    assert (refused.status_code, refused.json()["reason"]) == (409, "no_episode")
    assert await place(http, "mine") == (None, 0)
    await http.post("/sessions/mine/reset")
    assert (await http.post("/sessions/mine/step", json=STEP)).json()["reward"] == 0.3


async def test_the_list_pages_with_a_cursor_over_all_sessions(
    http: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    names = {f"s-{number}" for number in range(11)}
    for name in names:
        await http.post("/sessions", json={"session_id": name})
    listed: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await other.get("/sessions", params={"limit": 4, "cursor": cursor})).json()
        assert page.keys() == {"sessions", "next_cursor"}
        assert len(page["sessions"]) <= 4
        listed += [item["session_id"] for item in page["sessions"]]
        cursor = page["next_cursor"]
    assert set(listed) == names
    whole = (await http.get("/sessions")).json()
    assert {item["session_id"] for item in whole["sessions"]} == names
    one = (await http.get("/sessions/s-3")).json()
    (same,) = [item for item in whole["sessions"] if item["session_id"] == "s-3"]
    assert one | {"expires_in_s": 0} == same | {"expires_in_s": 0}


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "cursor=nonsense", "cursor=%00"])
async def test_a_list_that_cannot_be_is_a_422(http: httpx.AsyncClient, query: str) -> None:
    refused = await http.get(f"/sessions?{query}")
    assert (refused.status_code, refused.json()["code"]) == (422, "VALIDATION_ERROR")


async def test_unknown_sessions_are_404_to_read_409_to_step_and_204_to_end(http: httpx.AsyncClient) -> None:
    answers = {
        "inspect": await http.get("/sessions/nobody"),
        "state": await http.get("/sessions/nobody/state"),
        "state by header": await http.get("/state", headers={"x-session-id": "nobody"}),
        "step": await http.post("/sessions/nobody/step", json=STEP),
        "step by header": await http.post("/step", json=STEP, headers={"x-session-id": "nobody"}),
        "end": await http.delete("/sessions/nobody"),
        "end again": await http.delete("/sessions/nobody"),
    }
    assert {name: answer.status_code for name, answer in answers.items()} == {
        "inspect": 404,
        "state": 404,
        "state by header": 404,
        "step": 409,
        "step by header": 409,
        "end": 204,
        "end again": 204,
    }
    assert {answer.headers["x-session-id"] for answer in answers.values()} == {"nobody"}
    assert (await http.get("/sessions")).json()["sessions"] == []


async def test_a_malformed_name_is_400_wherever_it_stands(http: httpx.AsyncClient) -> None:
    bad = "a b"
    for answer in (
        await http.get("/sessions/a%20b"),
        await http.delete("/sessions/a%20b"),
        await http.get("/sessions/a%20b/state"),
        await http.post("/sessions/a%20b/step", json=STEP),
        await http.get("/state", headers={"x-session-id": bad}),
        await http.get("/state", params={"session_id": bad}),
        await http.get("/state", headers={"cookie": f"{COOKIE}={'a' * 129}"}),
        await http.post("/sessions", json={"session_id": bad}),
        await http.post("/sessions", json={"session_id": ""}),
    ):
        assert (answer.status_code, answer.json()["reason"]) == (400, "invalid_session_id")


async def test_two_names_in_the_header_are_refused_and_the_same_one_twice_is_one_name(http: httpx.AsyncClient) -> None:
    def named(*names: str) -> list[tuple[str, str]]:
        return [("x-session-id", name) for name in names]

    assert (await http.post("/reset", headers=named("one"))).status_code == 200
    refused = await http.post("/step", json=STEP, headers=named("one", "two"))
    assert (refused.status_code, refused.json()["reason"]) == (400, "invalid_session_id")
    assert "Send the header once." in refused.json()["detail"]
    assert (await http.get("/state", headers=named("one", "one"))).json()["step_count"] == 0


async def test_state_without_a_session_makes_nothing(http: httpx.AsyncClient) -> None:
    answer = await http.get("/state")
    assert (answer.status_code, answer.json()) == (200, {"episode_id": None, "step_count": 0})
    assert "x-session-id" not in answer.headers
    assert "set-cookie" not in answer.headers
    assert (await http.get("/sessions")).json()["sessions"] == []


async def test_a_step_without_a_session_says_how_to_name_one(http: httpx.AsyncClient) -> None:
    refused = await http.post("/step", json=STEP)
    assert (refused.status_code, refused.json()["reason"]) == (409, "session_lost")
    assert "X-Session-ID" in refused.json()["detail"]


async def test_a_reset_without_a_session_makes_one_and_sets_the_cookie(http: httpx.AsyncClient) -> None:
    ready = await http.post("/reset")
    name = ready.headers["x-session-id"]
    assert ready.headers["set-cookie"] == f"{COOKIE}={name}; Path=/; HttpOnly; SameSite=Lax"
    stepped = await http.post("/step", json=STEP, headers={"cookie": f"{COOKIE}={name}"})
    assert stepped.json()["reward"] == 0.3
    assert stepped.headers["set-cookie"] == ready.headers["set-cookie"]
    assert stepped.headers["x-session-id"] == name


@pytest.mark.parametrize("by", ["header", "query", "path"])
async def test_no_cookie_is_set_where_something_else_named_the_session(http: httpx.AsyncClient, by: str) -> None:
    prefix = "/sessions/mine" if by == "path" else ""
    params = {"session_id": "mine"} if by == "query" else {}
    headers = {"x-session-id": "mine"} if by == "header" else {}
    for cookie in ({}, {"cookie": f"{COOKIE}=another"}):
        for answer in (
            await http.post(f"{prefix}/reset", params=params, headers=headers | cookie),
            await http.post(f"{prefix}/step", params=params, headers=headers | cookie, json=STEP),
            await http.get(f"{prefix}/state", params=params, headers=headers | cookie),
        ):
            assert answer.status_code == 200
            assert "set-cookie" not in answer.headers
            assert answer.headers["x-session-id"] == "mine"
    assert [item["session_id"] for item in (await http.get("/sessions")).json()["sessions"]] == ["mine"]


async def test_path_beats_header_beats_query_beats_cookie(http: httpx.AsyncClient) -> None:
    cookie = {"cookie": f"{COOKIE}=d"}
    header = {"x-session-id": "b"}
    assert (await http.post("/sessions/a/reset?session_id=c", headers=header | cookie)).headers["x-session-id"] == "a"
    assert (await http.post("/reset?session_id=c", headers=header | cookie)).headers["x-session-id"] == "b"
    assert (await http.post("/reset?session_id=c", headers=cookie)).headers["x-session-id"] == "c"
    assert (await http.post("/reset", headers=cookie)).headers["x-session-id"] == "d"


async def test_errors_name_the_session_too_and_renew_the_cookie(http: httpx.AsyncClient) -> None:
    for bad in (b"{", b"[]", b'{"action": {}}'):
        refused = await http.post("/step", content=bad, headers=JSON | {"cookie": f"{COOKIE}=mine"})
        assert refused.status_code == 422
        assert refused.headers["x-session-id"] == "mine"
        assert COOKIE in refused.headers["set-cookie"]


async def test_an_error_echoes_the_request_id_of_its_body(http: httpx.AsyncClient) -> None:
    refused = await http.post("/sessions/nobody/step", json=STEP | {"request_id": "r"})
    assert (refused.status_code, refused.json()["request_id"]) == (409, "r")
    assert "request_id" not in (await http.post("/sessions/nobody/step", json=STEP)).json()


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_a_balancer_may_ask_by_head(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.head(path)).status_code == 200


async def test_behind_a_proxy_that_ends_tls_the_cookie_is_secure(http: httpx.AsyncClient) -> None:
    ready = await http.post("/reset", headers={"x-forwarded-proto": "https"})
    assert ready.headers["set-cookie"].endswith("; Secure")
    name = ready.headers["x-session-id"]
    stepped = await http.post("/step", json=STEP, headers={"x-forwarded-proto": "https", "cookie": f"{COOKIE}={name}"})
    assert stepped.headers["set-cookie"].endswith("; Secure")


async def test_an_idempotency_key_counts_where_the_body_has_no_request_id(http: httpx.AsyncClient) -> None:
    await http.post("/sessions/mine/reset")
    key = {"idempotency-key": "k"}
    first = await http.post("/sessions/mine/step", json=STEP, headers=key)
    assert (await http.post("/sessions/mine/step", json=STEP, headers=key)).json() == first.json()
    assert "request_id" not in first.json()
    named = await http.post("/sessions/mine/step", json=STEP | {"request_id": "r"}, headers=key)
    assert (named.json()["metadata"]["step"], named.json()["request_id"]) == (2, "r")
    again = await http.post("/sessions/mine/step", json=STEP | {"request_id": "r"}, headers={"idempotency-key": "l"})
    assert again.json() == named.json()
    assert (await place(http, "mine"))[1] == 2


async def test_a_session_expires_after_its_ttl(redis: RedisServer) -> None:
    for url in (None, f"{redis.url}/3"):
        with running_pool(1, redis_url=url, session_ttl_s=1.0) as pool:
            async with httpx.AsyncClient(base_url=pool.url(0), trust_env=False) as client:
                await client.post("/sessions/mine/reset")
                while (answer := await client.get("/sessions/mine")).status_code == 200:
                    assert answer.json()["expires_in_s"] <= 1.0
                assert answer.status_code == 404
                assert (await client.post("/sessions/mine/step", json=STEP)).status_code == 409
