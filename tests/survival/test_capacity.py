"""MAX_SESSIONS counts the pool, not the worker, whatever way a session comes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_servers import RedisServer
from tests.survival.sockets import Socket
from tests.survival.stock import StockClients
from tests.survival.workers import Worker, http, until, workers

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def four(durable_redis: RedisServer) -> Iterator[list[Worker]]:
    """Four workers of a pool of their own: a Redis has databases."""
    with workers(4, METAGAME_REDIS_URL=f"{durable_redis.url}/1", METAGAME_MAX_SESSIONS="2") as several:
        yield several


async def is_refused(worker: Worker) -> None:
    async with http(worker) as client:
        for path in ("/sessions", "/reset", "/sessions/third/reset"):
            refused = await client.post(path)
            assert (refused.status_code, refused.json()["code"]) == (503, "CAPACITY_REACHED"), path
            assert int(refused.headers["retry-after"]) > 0
        assert (await client.get("/sessions/third")).status_code == 404
    async with Socket(worker) as socket:
        told = (await socket.receive())["data"]
        assert (told["code"], told["active_sessions"], told["max_sessions"]) == ("CAPACITY_REACHED", 2, 2)
        assert await socket.close_code() == 1000
    async with Socket(worker, "third") as socket:
        assert (await socket.ask("reset", {}))["code"] == "CAPACITY_REACHED"


async def test_the_third_of_two_sessions_is_refused_by_every_worker_on_every_surface(
    four: list[Worker], stock: StockClients
) -> None:
    async with http(four[1]) as client:
        async with Socket(four[0]) as anonymous:
            await anonymous.reset()
            assert (await client.post("/sessions", json={"session_id": "second"})).status_code == 201
            for worker in four:
                await is_refused(worker)
            # Unmodified clients look for exactly this word in exactly this error.
            refused = await stock.raises("make_and_reset", base_url=four[3].url)
            assert refused.startswith("RuntimeError: ")
            assert "(code: CAPACITY_REACHED)" in refused
            assert await anonymous.step() == 1

        async def admitted() -> bool:
            return (await client.post("/sessions/third/reset")).status_code == 200

        await until(admitted, "the end of the anonymous session")
        assert (await client.delete("/sessions/second")).status_code == 204
        assert (await client.delete("/sessions/third")).status_code == 204
