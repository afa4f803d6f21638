"""What a crash leaves half done is put right within 30 s, by whichever worker lives.

One crash, made to leave everything at once, serves all tests of this module.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic

import httpx
import pytest

from services.store.keys import places_key, record_key
from tests.redis_servers import RedisServer, free_port, redis_server
from tests.survival.redis_proxy import redis_proxy
from tests.survival.sockets import Socket
from tests.survival.workers import Worker, http, running, until

pytestmark = pytest.mark.anyio
HEALED_WITHIN_S = 30.0
SLACK_S = 5.0
"""What a busy machine may add."""
PLACES = places_key("metagame")
MAX_SESSIONS = 8


@dataclass(frozen=True, slots=True)
class Crash:
    """A pool, full, some time after three of its workers died."""

    redis: RedisServer
    survivor: Worker
    sleeping: Worker
    """Stopped when the others died, with an anonymous socket of its own."""
    asleep: Socket
    at: float
    anonymous: frozenset[str]
    """The sessions of the anonymous sockets of all four."""

    def has_place(self, session_id: str) -> bool:
        with self.redis.client() as redis:
            return redis.zscore(PLACES, session_id) is not None

    def has_record(self, session_id: str) -> bool:
        with self.redis.client() as redis:
            return bool(redis.exists(record_key("metagame", session_id)))

    def left_s(self) -> float:
        return self.at + HEALED_WITHIN_S + SLACK_S - monotonic()


@pytest.fixture(scope="module")
async def crash(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Crash]:
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(redis_server(tmp_path_factory.mktemp("heals")))
        # A call that is held holds up what the same worker asks after it: one worker, one operation that breaks off.
        proxies = [await stack.enter_async_context(redis_proxy(free_port(), redis.port)) for _ in range(3)]
        urls = (*[f"redis://127.0.0.1:{proxy.port}" for proxy in proxies], redis.url, redis.url)
        *dying, sleeping, survivor = several = [
            Worker(METAGAME_REDIS_URL=url, METAGAME_MAX_SESSIONS=str(MAX_SESSIONS)) for url in urls
        ]
        for worker in several:
            stack.callback(worker.end)
        await running(*several)
        ends, ends_its_record, makes = [await stack.enter_async_context(http(worker)) for worker in dying]
        await loads_scripts(ends)
        for name in ("record-stays", "record-goes", "placeless"):
            assert (await ends.post("/sessions", json={"session_id": name})).status_code == 201
            await ends.post(f"/sessions/{name}/reset", json={"episode_id": name})
        for worker in (*dying, sleeping):
            socket = await stack.enter_async_context(Socket(worker))
            await socket.reset()
        anonymous = frozenset(await sessions(ends)) - {"record-stays", "record-goes", "placeless"}
        for proxy, script in zip(proxies, ("free", "end", "create"), strict=True):
            proxy.hold_calls(script)
        halves = [
            asyncio.create_task(ends.delete("/sessions/record-goes")),
            asyncio.create_task(ends_its_record.delete("/sessions/record-stays")),
            asyncio.create_task(makes.post("/sessions", json={"session_id": "half-made"})),
        ]
        held = [{"free"}, {"end"}, {"create"}]
        await until(lambda: [proxy.held for proxy in proxies] == held, "two ends and an admission without their last")
        sleeping.send(signal.SIGSTOP)
        for worker in dying:
            await asyncio.to_thread(worker.kill)
        at = monotonic()
        await asyncio.gather(*halves, return_exceptions=True)
        with redis.client() as looking:
            assert looking.zcard(PLACES) == MAX_SESSIONS
            looking.zrem(PLACES, "placeless")
        yield Crash(redis, survivor, sleeping, socket, at, anonymous)


async def loads_scripts(client: httpx.AsyncClient) -> None:
    """Have Redis know every script that is held later on."""
    await client.post("/sessions", json={"session_id": "first"})
    assert (await client.delete("/sessions/first")).status_code == 204


async def sessions(client: httpx.AsyncClient) -> list[str]:
    listed = (await client.get("/sessions")).json()["sessions"]
    return [item["session_id"] for item in listed]


async def healed(crash: Crash) -> None:
    """Every place that the crash left behind is free."""
    left = {*crash.anonymous, "record-goes", "half-made"}
    await until(lambda: not any(map(crash.has_place, left)), "the places' end", crash.left_s())


async def test_a_session_without_its_place_still_works(crash: Crash) -> None:
    async with http(crash.survivor) as client:
        answer = await client.post("/sessions/placeless/step", json={"action": {"message": "abc"}})
        assert answer.json()["metadata"]["step"] == 1


async def test_a_session_whose_end_broke_off_before_its_record_went_lives_on(crash: Crash) -> None:
    async with Socket(crash.survivor, "record-stays") as socket:
        assert await socket.stands() == ("record-stays", 0)
        assert await socket.step() == 1
    assert crash.has_place("record-stays")


async def test_a_place_whose_end_broke_off_after_its_record_went_becomes_free(crash: Crash) -> None:
    assert not crash.has_record("record-goes")
    await until(lambda: not crash.has_place("record-goes"), "the place's end", crash.left_s())


async def test_a_place_whose_admission_broke_off_before_its_record_came_becomes_free(crash: Crash) -> None:
    assert not crash.has_record("half-made")
    await until(lambda: not crash.has_place("half-made"), "the place's end", crash.left_s())


async def test_anonymous_sessions_of_a_dead_worker_end_and_give_up_their_places(crash: Crash) -> None:
    assert len(crash.anonymous) == 4
    await until(lambda: not any(map(crash.has_place, crash.anonymous)), "the places' end", crash.left_s())
    assert not any(map(crash.has_record, crash.anonymous))


async def test_a_worker_that_slept_through_the_end_of_an_anonymous_session_makes_no_other_in_its_place(
    crash: Crash,
) -> None:
    await healed(crash)
    crash.sleeping.send(signal.SIGCONT)
    refused = await crash.asleep.ask("step", {"message": "abc"})
    assert refused["code"] == "SESSION_ERROR"
    assert "reset" in refused["message"].lower()
    assert (await crash.asleep.ask("state"))["code"] == "SESSION_ERROR"
    assert not any(map(crash.has_record, crash.anonymous))


async def test_every_place_that_became_free_can_be_taken_again(crash: Crash) -> None:
    await healed(crash)
    with crash.redis.client() as redis:
        taken = redis.zcard(PLACES)
    async with http(crash.survivor) as client:
        made = [(await client.post("/sessions")).status_code for _ in range(MAX_SESSIONS - taken + 1)]
    assert made == [201] * (MAX_SESSIONS - taken) + [503]
    assert taken == 1
