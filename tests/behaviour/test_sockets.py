"""What only sockets do: frames in order, takeovers, endings."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.behaviour.apps import Pool, running_pool
from tests.behaviour.drivers import Naming, open_socket
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.anyio

TTL_S = 3.0
"""Short, so that leases are renewed every second."""
TOLD_WITHIN_S = 8.0
RESET: dict[str, Any] = {"type": "reset", "data": {"episode_id": "e"}}
STEP: dict[str, Any] = {"type": "step", "data": {"message": "one"}}
STATE = {"type": "state"}
CLOSE = {"type": "close"}
named = pytest.mark.parametrize("naming", ["path", "query", "header"])

Open = Callable[..., Awaitable[ClientConnection]]


@pytest.fixture(
    scope="module",
    params=[("memory", "direct"), ("memory", "asgi"), ("redis", "direct")],
    ids="-".join,
)
def pool(request: pytest.FixtureRequest, redis: RedisServer) -> Iterator[Pool]:
    store, channel = request.param
    memory = store == "memory"
    url = None if memory else f"{redis.url}/4"
    with running_pool(1 if memory else 2, channel=channel, redis_url=url, session_ttl_s=TTL_S) as running:
        yield running


@pytest.fixture
async def opened(pool: Pool) -> AsyncIterator[Open]:
    """Opens sockets, each to the next worker, and closes them with the test."""
    async with contextlib.AsyncExitStack() as stack:
        turn = 0

        async def opens(naming: Naming = "path", session_id: str | None = "s") -> ClientConnection:
            nonlocal turn
            turn += 1
            return await stack.enter_async_context(await open_socket(pool.url(turn), naming, session_id))

        yield opens
    async with httpx.AsyncClient(base_url=pool.url(0), trust_env=False) as client:
        await client.delete("/sessions/s")


@pytest.fixture
async def http(pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=pool.url(0), trust_env=False) as client:
        yield client


async def ask(socket: ClientConnection, frame: dict[str, Any]) -> dict[str, Any]:
    await socket.send(json.dumps(frame))
    answer: dict[str, Any] = json.loads(await socket.recv())
    return answer


async def ended(socket: ClientConnection) -> int | None:
    """The code that the server closed with, once it has."""
    async with asyncio.timeout(TOLD_WITHIN_S):
        await socket.wait_closed()
    return socket.close_code


async def lists(http: httpx.AsyncClient) -> list[str]:
    return [item["session_id"] for item in (await http.get("/sessions")).json()["sessions"]]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(TOLD_WITHIN_S):
        while not await holds():  # noqa: ASYNC110 - a server's state sets no event here
            await asyncio.sleep(0.01)


async def test_no_frame_comes_unasked(opened: Open) -> None:
    for socket in (await opened("anonymous"), await opened("path")):
        state = await ask(socket, STATE)
        assert state["type"] in {"state", "error"}
        await socket.send(json.dumps(RESET))
        assert json.loads(await socket.recv())["type"] == "observation"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await socket.recv()


async def test_a_new_anonymous_socket_stands_at_step_0_in_no_episode(opened: Open) -> None:
    assert await ask(await opened("anonymous"), STATE) == {
        "type": "state",
        "data": {"episode_id": None, "step_count": 0},
    }


async def test_frames_sent_at_once_are_answered_one_by_one_in_order(opened: Open) -> None:
    for socket in (await opened("anonymous"), await opened("path")):
        for frame in [RESET, *[STEP | {"request_id": f"r{number}"} for number in range(30)], {"type": "x"}, STATE]:
            await socket.send(json.dumps(frame))
        await socket.send("not json")
        await socket.send(b"binary")
        answers = [json.loads(await socket.recv()) for _ in range(35)]
        assert [answer["type"] for answer in answers] == ["observation"] * 31 + ["error", "state", "error", "error"]
        assert [answer["data"]["metadata"]["step"] for answer in answers[1:31]] == list(range(1, 31))
        assert [answer["request_id"] for answer in answers[1:31]] == [f"r{number}" for number in range(30)]
        assert answers[31]["data"]["code"] == "UNKNOWN_TYPE"
        assert answers[32]["data"]["step_count"] == 30
        assert [answer["data"]["code"] for answer in answers[33:]] == ["INVALID_JSON"] * 2


@named
async def test_an_idle_socket_is_told_of_its_takeover_and_closed_with_4001(opened: Open, naming: Naming) -> None:
    older = await opened(naming)
    await ask(older, RESET)
    await ask(older, STEP)
    newer = await opened(naming)
    async with asyncio.timeout(TOLD_WITHIN_S):
        told = json.loads(await older.recv())
    assert (told["type"], told["data"]["code"], told["data"]["reason"]) == (
        "error",
        "SESSION_ERROR",
        "session_taken_over",
    )
    assert await ended(older) == 4001
    assert (await ask(newer, STATE))["data"] == {"episode_id": "e", "step_count": 1}


@pytest.mark.parametrize("frame", [STEP, RESET, STATE], ids=["step", "reset", "state"])
async def test_a_socket_taken_over_is_told_at_its_next_frame(opened: Open, frame: dict[str, Any]) -> None:
    older = await opened()
    await ask(older, RESET)
    newer = await opened()
    assert (await ask(older, frame | {"request_id": "r"}))["data"]["reason"] == "session_taken_over"
    assert await ended(older) == 4001
    assert (await ask(newer, STATE))["data"] == {"episode_id": "e", "step_count": 0}


async def test_once_attached_the_state_is_final(opened: Open) -> None:
    sockets = [await opened()]
    await ask(sockets[0], RESET)
    for _ in range(6):
        for number in range(5):
            await sockets[-1].send(json.dumps(STEP | {"request_id": f"{len(sockets)}-{number}"}))
        newer = await opened()
        final = (await ask(newer, STATE))["data"]
        with contextlib.suppress(ConnectionClosed):
            while True:
                await sockets[-1].recv()
        assert (await ask(newer, STATE))["data"] == final
        sockets.append(newer)


async def test_http_steps_beside_an_open_socket_and_takes_nothing_over(opened: Open, http: httpx.AsyncClient) -> None:
    socket = await opened()
    await ask(socket, RESET)
    for number in (1, 3, 5):
        stepped = await http.post("/sessions/s/step", json={"action": {"message": "one"}})
        assert stepped.json()["metadata"]["step"] == number
        assert (await ask(socket, STEP))["data"]["metadata"]["step"] == number + 1
    assert (await http.get("/sessions/s")).json()["attached"]


async def test_a_reset_over_http_is_not_stepped_into_unseen(opened: Open, http: httpx.AsyncClient) -> None:
    socket = await opened()
    await ask(socket, RESET)
    await http.post("/sessions/s/reset", json={"episode_id": "theirs"})
    refused = await ask(socket, STEP)
    assert refused["data"]["reason"] == "session_moved"
    assert (refused["data"]["episode_id"], refused["data"]["step_count"]) == ("theirs", 0)
    await ask(socket, STATE)
    assert (await ask(socket, STEP))["data"]["metadata"]["step"] == 1


@named
async def test_a_close_frame_ends_a_session_that_a_socket_made(
    opened: Open, http: httpx.AsyncClient, naming: Naming
) -> None:
    socket = await opened(naming)
    await ask(socket, RESET)
    await socket.send(json.dumps(CLOSE))
    assert await ended(socket) == 1000
    await until(lambda: _status_is(http, 404))


async def test_a_close_frame_ends_a_session_that_a_reset_over_http_made(opened: Open, http: httpx.AsyncClient) -> None:
    await http.post("/sessions/s/reset")
    socket = await opened()
    await socket.send(json.dumps(CLOSE))
    assert await ended(socket) == 1000
    await until(lambda: _status_is(http, 404))


async def test_a_close_frame_detaches_from_a_session_that_was_made(opened: Open, http: httpx.AsyncClient) -> None:
    await http.post("/sessions", json={"session_id": "s"})
    socket = await opened()
    await ask(socket, RESET)
    await socket.send(json.dumps(CLOSE))
    assert await ended(socket) == 1000
    await until(lambda: _is_detached(http))
    assert (await http.get("/sessions/s/state")).json() == {"episode_id": "e", "step_count": 0}


async def test_a_socket_that_drops_detaches(opened: Open, http: httpx.AsyncClient) -> None:
    socket = await opened()
    await ask(socket, RESET)
    assert (await http.get("/sessions/s")).json()["attached"]
    socket.transport.abort()
    await until(lambda: _is_detached(http))
    again = await opened()
    assert (await ask(again, STEP))["data"]["metadata"]["step"] == 1


@pytest.mark.parametrize("how", ["close frame", "close", "drop"])
async def test_an_anonymous_session_ends_with_its_socket(opened: Open, http: httpx.AsyncClient, how: str) -> None:
    socket = await opened("anonymous")
    await ask(socket, RESET)
    (session_id,) = await lists(http)
    assert (await http.get(f"/sessions/{session_id}")).json()["attached"]
    if how == "drop":
        socket.transport.abort()
    elif how == "close":
        await socket.close()
    else:
        await socket.send(json.dumps(CLOSE))
        assert await ended(socket) == 1000

    async def is_gone() -> bool:
        return not await lists(http)

    await until(is_gone)
    assert (await http.get(f"/sessions/{session_id}")).status_code == 404


async def test_a_socket_keeps_its_session_over_its_ttl(opened: Open, http: httpx.AsyncClient) -> None:
    anonymous, one = await opened("anonymous"), await opened("path")
    for socket in (anonymous, one):
        await ask(socket, RESET)
    await asyncio.sleep(1.2 * TTL_S)
    for socket in (anonymous, one):
        assert (await ask(socket, STEP))["data"]["metadata"]["step"] == 1


@pytest.mark.parametrize("bad", ["a%20b", "a" * 129])
async def test_a_malformed_name_is_told_on_the_socket(pool: Pool, bad: str) -> None:
    async with await open_socket(pool.url(0), "query", bad) as socket:
        told = json.loads(await socket.recv())
        assert (told["type"], told["data"]["code"]) == ("error", "VALIDATION_ERROR")
        assert told["data"]["reason"] == "invalid_session_id"
        assert await ended(socket) == 1000


async def test_a_socket_never_reads_the_cookie(pool: Pool, http: httpx.AsyncClient) -> None:
    await http.post("/sessions/s/reset")
    url = pool.url(0).replace("http", "ws", 1) + "/ws"
    async with connect(url, additional_headers={"cookie": "metagame_session=s"}, proxy=None) as socket:
        assert (await ask(socket, STATE))["data"] == {"episode_id": None, "step_count": 0}


async def _status_is(http: httpx.AsyncClient, status: int) -> bool:
    return (await http.get("/sessions/s")).status_code == status


async def _is_detached(http: httpx.AsyncClient) -> bool:
    return (await http.get("/sessions/s")).json().get("attached") is False
