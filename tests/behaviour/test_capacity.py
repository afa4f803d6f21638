"""A pool of two places and four workers: the third session is refused, whichever way it comes."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from metagame.errors import CapacityReached
from metagame.wire.requests import ResetRequest, StepRequest
from tests.behaviour.apps import Pool, running_pool
from tests.behaviour.drivers import SURFACES, HttpDriver, Surface, WsDriver, open_socket
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.anyio

PLACES = 2
LIMIT_S = 10.0
FULL = {"active_sessions": PLACES, "max_sessions": PLACES}
each_surface = pytest.mark.parametrize("surface", SURFACES, ids=str)


@pytest.fixture(scope="module")
def pool(redis: RedisServer) -> Iterator[Pool]:
    with running_pool(4, redis_url=f"{redis.url}/5", max_sessions=PLACES) as running:
        yield running


@pytest.fixture
async def http(pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    """A client of one worker; the pool is left empty."""
    async with httpx.AsyncClient(base_url=pool.url(3), trust_env=False) as client:
        yield client
        for item in (await client.get("/sessions")).json()["sessions"]:
            await client.delete(f"/sessions/{item['session_id']}")
        # A socket that a test dropped may still be ending its session.
        await until_there_is_room(client)


async def until_there_is_room(client: httpx.AsyncClient) -> None:
    """Every place of the pool is free."""
    names = [f"room-{number}" for number in range(PLACES)]
    async with asyncio.timeout(LIMIT_S):
        for name in names:
            while (await client.post("/sessions", json={"session_id": name})).status_code == 503:  # noqa: ASYNC110 - only asking shows it
                await asyncio.sleep(0.01)  # the pool tells nobody when a place is free
    for name in names:
        await client.delete(f"/sessions/{name}")


def from_worker(pool: Pool, number: int) -> Pool:
    """The same pool, seen from one worker first."""
    return Pool(tuple(pool.url(number + turn) for turn in range(len(pool.urls))))


@each_surface
async def test_two_are_admitted_and_the_third_is_refused_until_a_place_is_free(
    pool: Pool, http: httpx.AsyncClient, surface: Surface
) -> None:
    async with AsyncExitStack() as stack:
        clients: list[HttpDriver | WsDriver] = []
        for number in range(3):
            client = surface.open(from_worker(pool, number))
            stack.push_async_callback(client.leave)
            clients.append(client)
        for client in clients[:PLACES]:
            await client.reset(ResetRequest())
        with pytest.raises(CapacityReached, match="2/2") as refused:
            await clients[2].reset(ResetRequest())
        assert refused.value.fields.items() >= FULL.items()
        for client in clients[:PLACES]:
            assert (await client.step(StepRequest({"message": "one"}))).reward == 0.3
        name = clients[0].session_id or (await http.get("/sessions")).json()["sessions"][0]["session_id"]
        assert (await http.delete(f"/sessions/{name}")).status_code == 204
        if surface.anonymous:
            await clients[2].leave()
        await clients[2].reset(ResetRequest())
        assert (await clients[2].step(StepRequest({"message": "one"}))).reward == 0.3


async def test_http_is_refused_with_503_and_told_when_to_come_again(pool: Pool, http: httpx.AsyncClient) -> None:
    for number in range(PLACES):
        assert (await http.post("/sessions", json={"session_id": f"s{number}"})).status_code == 201
    for refused in (
        await http.post("/reset"),
        await http.post("/sessions/another/reset"),
        await http.post("/sessions", json={"session_id": "another"}),
        await http.post("/sessions"),
    ):
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["code"] == "CAPACITY_REACHED"
        assert refused.json().items() >= FULL.items()
    assert (await http.post("/sessions", json={"session_id": "s0"})).status_code == 200
    assert (await http.post("/sessions/s0/reset")).status_code == 200
    assert (await http.get("/sessions/another")).status_code == 404


async def test_an_anonymous_socket_is_accepted_told_and_closed_with_1000(pool: Pool, http: httpx.AsyncClient) -> None:
    async with AsyncExitStack() as stack:
        held = [
            await stack.enter_async_context(await open_socket(pool.url(number), "anonymous", None))
            for number in range(PLACES)
        ]
        refused = await stack.enter_async_context(await open_socket(pool.url(2), "anonymous", None))
        told = json.loads(await refused.recv())
        assert told["type"] == "error"
        assert told["data"].items() >= ({"code": "CAPACITY_REACHED"} | FULL).items()
        await refused.wait_closed()
        assert refused.close_code == 1000
        await held[0].close()
        await _admitted(pool)


async def test_a_named_socket_is_refused_at_its_first_reset_and_stays_open(pool: Pool, http: httpx.AsyncClient) -> None:
    for number in range(PLACES):
        await http.post(f"/sessions/s{number}/reset")
    async with await open_socket(pool.url(0), "path", "another") as socket:
        for _ in range(2):
            await socket.send('{"type": "reset"}')
            assert json.loads(await socket.recv())["data"]["code"] == "CAPACITY_REACHED"
        await http.delete("/sessions/s0")
        await socket.send('{"type": "reset"}')
        assert json.loads(await socket.recv())["type"] == "observation"


async def test_many_at_once_never_get_more_places_than_there_are(pool: Pool, http: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        answers = await asyncio.gather(
            *[client.post(f"{pool.url(number)}/sessions/s{number}/reset") for number in range(24)]
        )
    assert sorted(answer.status_code for answer in answers) == [200] * PLACES + [503] * (24 - PLACES)
    assert len((await http.get("/sessions")).json()["sessions"]) == PLACES


async def _admitted(pool: Pool) -> None:
    """Open an anonymous socket, as soon as there is a place again."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            async with await open_socket(pool.url(3), "anonymous", None) as socket:
                try:
                    await socket.send('{"type": "state"}')
                except ConnectionClosed:
                    continue  # told and closed before it asked
                if json.loads(await socket.recv())["type"] == "state":
                    return
