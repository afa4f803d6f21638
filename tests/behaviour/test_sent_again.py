"""Requests that name no session, sent again as a balancer does when their worker died: one session, not two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from http.cookiejar import DefaultCookiePolicy
from uuid import uuid4

import httpx
import pytest

from tests.behaviour.apps import Pool, running_pool
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.anyio
ORDERS = pytest.mark.parametrize("turns", [(0, 1), (1, 0), (0, 0)], ids=["there", "back", "same worker"])
NOT_RANDOM = [
    "1",
    "",
    "00000000-0000-0000-0000-000000000000",
    "2ed6657d-e927-568b-95e1-2665a8aea6a2",  # of version 5: made of a name
    "4d17dbf484dd4d738b44fcb1272fc8b9",
    "4d17dbf4-83dd-4d73-8b44-fcb1272fc8b9-1",
    "{4d17dbf4-83dd-4d73-8b44-fcb1272fc8b9}",
]


@pytest.fixture(scope="module", params=["memory", "redis"])
def pool(request: pytest.FixtureRequest, redis: RedisServer) -> Iterator[Pool]:
    memory = request.param == "memory"
    with running_pool(1 if memory else 2, redis_url=None if memory else f"{redis.url}/3") as running:
        yield running


@pytest.fixture
async def workers(pool: Pool) -> AsyncIterator[list[httpx.AsyncClient]]:
    """A client of each worker that keeps no cookies; the pool is empty before and after."""
    clients = [httpx.AsyncClient(base_url=pool.url(turn), trust_env=False) for turn in range(2)]
    for client in clients:
        client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    yield clients
    for name in await sessions(clients[0]):
        await clients[0].delete(f"/sessions/{name}")
    for client in clients:
        await client.aclose()


async def sessions(client: httpx.AsyncClient) -> list[str]:
    return [item["session_id"] for item in (await client.get("/sessions?limit=1000")).json()["sessions"]]


def key(value: str | None) -> dict[str, str]:
    return {} if value is None else {"Idempotency-Key": value}


@ORDERS
async def test_a_reset_with_a_random_key_is_answered_again_from_its_own_session(
    workers: list[httpx.AsyncClient], turns: tuple[int, int]
) -> None:
    headers, body = key(str(uuid4())), {"seed": 7}
    first, again = [await workers[turn].post("/reset", json=body, headers=headers) for turn in turns]
    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    assert first.headers["x-session-id"] == again.headers["x-session-id"]
    assert first.headers["set-cookie"] == again.headers["set-cookie"]
    assert await sessions(workers[0]) == [first.headers["x-session-id"]]
    item = (await workers[0].get(f"/sessions/{first.headers['x-session-id']}")).json()
    assert item["generation"] == 1


@ORDERS
async def test_a_reset_with_a_random_request_id_in_its_body_finds_its_session_whatever_the_key(
    workers: list[httpx.AsyncClient], turns: tuple[int, int]
) -> None:
    body = {"request_id": str(uuid4())}
    first, again = [await workers[turn].post("/reset", json=body, headers=key(str(uuid4()))) for turn in turns]
    assert first.content == again.content
    assert await sessions(workers[0]) == [first.headers["x-session-id"]] == [again.headers["x-session-id"]]


async def test_a_reset_with_a_short_request_id_finds_its_session_by_the_balancers_key(
    workers: list[httpx.AsyncClient],
) -> None:
    headers, body = key(str(uuid4())), {"request_id": "1"}
    first, again = [await worker.post("/reset", json=body, headers=headers) for worker in workers]
    assert first.content == again.content
    assert await sessions(workers[0]) == [first.headers["x-session-id"]] == [again.headers["x-session-id"]]


@pytest.mark.parametrize("value", NOT_RANDOM)
async def test_two_clients_with_the_same_key_that_is_not_random_get_a_session_each(
    workers: list[httpx.AsyncClient], value: str
) -> None:
    for path, status in (("/reset", 200), ("/sessions", 201)):
        answers = [await worker.post(path, headers=key(value)) for worker in workers]
        assert [answer.status_code for answer in answers] == [status, status]
        assert len({answer.headers["x-session-id"] for answer in answers}) == 2
    assert len(await sessions(workers[0])) == 4


async def test_the_same_key_with_another_reset_is_a_conflict_and_changes_nothing(
    workers: list[httpx.AsyncClient],
) -> None:
    headers = key(str(uuid4()))
    first = await workers[0].post("/reset", json={"seed": 7, "episode_id": "e"}, headers=headers)
    other = await workers[1].post("/reset", json={"seed": 8, "episode_id": "f"}, headers=headers)
    assert (other.status_code, other.json()["reason"]) == (409, "request_conflict")
    name = first.headers["x-session-id"]
    assert await sessions(workers[0]) == [name]
    assert (await workers[0].get(f"/sessions/{name}/state")).json()["episode_id"] == "e"


async def test_a_reset_sent_again_when_the_episode_has_gone_on_says_so_and_counts_nothing(
    workers: list[httpx.AsyncClient],
) -> None:
    headers = key(str(uuid4()))
    name = (await workers[0].post("/reset", headers=headers)).headers["x-session-id"]
    step = {"action": {"message": "abc"}}
    assert (await workers[0].post(f"/sessions/{name}/step", json=step)).status_code == 200
    late = await workers[1].post("/reset", headers=headers)
    assert (late.status_code, late.json()["reason"]) == (409, "answer_forgotten")
    assert (await workers[0].get(f"/sessions/{name}/state")).json()["step_count"] == 1
    assert await sessions(workers[0]) == [name]


async def test_a_request_that_names_its_session_stays_with_it(workers: list[httpx.AsyncClient]) -> None:
    headers = key(str(uuid4()))
    await workers[0].post("/reset", headers=headers | {"X-Session-ID": "mine"})
    await workers[1].post("/sessions/yours/reset", headers=headers)
    await workers[1].post("/sessions", json={"session_id": "theirs"}, headers=headers)
    assert sorted(await sessions(workers[0])) == ["mine", "theirs", "yours"]


@ORDERS
async def test_making_a_session_with_a_random_key_makes_one_however_often_it_is_sent(
    workers: list[httpx.AsyncClient], turns: tuple[int, int]
) -> None:
    headers = key(str(uuid4()))
    first, again = [await workers[turn].post("/sessions", headers=headers) for turn in turns]
    assert first.status_code == again.status_code == 201
    assert first.json() | {"expires_in_s": 0} == again.json() | {"expires_in_s": 0}
    assert await sessions(workers[0]) == [first.json()["session_id"]]


async def test_a_session_made_and_one_reset_with_the_same_key_are_two(workers: list[httpx.AsyncClient]) -> None:
    headers = key(str(uuid4()))
    made = await workers[0].post("/sessions", headers=headers)
    reset = await workers[1].post("/reset", headers=headers)
    assert sorted(await sessions(workers[0])) == sorted([made.json()["session_id"], reset.headers["x-session-id"]])
    assert made.json()["session_id"] != reset.headers["x-session-id"]


async def test_an_empty_name_is_refused_with_a_key_too(workers: list[httpx.AsyncClient]) -> None:
    refused = await workers[0].post("/sessions", json={"session_id": ""}, headers=key(str(uuid4())))
    assert (refused.status_code, refused.json()["reason"]) == (400, "invalid_session_id")


async def test_the_key_does_not_show_in_the_session_id(workers: list[httpx.AsyncClient]) -> None:
    value = str(uuid4())
    name = (await workers[0].post("/reset", headers=key(value))).headers["x-session-id"]
    assert len(name) == 32
    assert value.replace("-", "") != name
