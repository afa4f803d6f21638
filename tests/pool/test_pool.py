"""`GET /pool`: the same pool from whichever worker is asked, whatever becomes of the others and of Redis."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from functools import partial
from time import monotonic
from uuid import uuid4

import httpx
import pytest
from jsonschema import validate  # type: ignore[import-untyped]

from services.store.keys import workers_key
from services.surfaces import describe
from tests.pool.conftest import Pool, Told, by_pid, told
from tests.redis_servers import RedisServer, redis_server
from tests.servers import Server, run_server
from tests.survival.sockets import Socket
from tests.survival.workers import until

pytestmark = pytest.mark.anyio
SCHEMA = describe.pool()["responses"][200]["content"]["application/json"]["schema"]
WORKERS = workers_key("metagame")


def errors_since(before: Told, after: Told) -> dict[str, int]:
    counts = {code: count - before["errors"].get(code, 0) for code, count in after["errors"].items()}
    return {code: count for code, count in counts.items() if count}


def told_all(url: str, *, steps: int, attached: int) -> Told | None:
    """The answer, once all that was done is in it; another worker may not have heard of it yet."""
    seen = told(url)
    whole = (seen["steps"]["total"], seen["sessions"]["attached"]) == (steps, attached)
    return seen if whole else None


async def test_every_worker_tells_of_all_that_was_done_in_the_pool(pool: Pool) -> None:
    first, second = pool.workers
    await until(lambda: by_pid(told(first.url), second), "both known")
    before = told(first.url)
    done = 0
    async with AsyncExitStack() as stack:
        named = [await stack.enter_async_context(Socket(pool.balancer, uuid4().hex)) for _ in range(6)]
        anonymous = [await stack.enter_async_context(Socket(worker)) for worker in (first, second, second)]
        for socket in (*named, *anonymous):
            await socket.reset()
        await named[0].ask("step", {"massage": "x"})
        async with httpx.AsyncClient(base_url=pool.balancer.url, trust_env=False) as http:
            name = uuid4().hex
            await http.post(f"/sessions/{name}/reset")
            for _ in range(4):
                await http.post(f"/sessions/{name}/step", json={"action": {"message": "x"}})
            await http.get(f"/sessions/{uuid4().hex}/state")
        done += 4
        # The last steps are at either worker: a word that has them all has what was done before.
        for number, socket in enumerate((*named, *anonymous), 1):
            for step in range(1, number + 1):
                assert await socket.step() == step
            done += number
        for url in pool.urls:
            total = before["steps"]["total"] + done
            after = await until(partial(told_all, url, steps=total, attached=9), "all steps and sockets")
            validate(after, SCHEMA)
            assert after["store"] == "redis"
            assert after["sessions"]["anonymous"] == 3
            assert after["sessions"]["total"] == before["sessions"]["total"] + 10
            assert after["sessions"]["detached"] == after["sessions"]["total"] - 9
            assert after["sessions"]["max"] == 50
            assert after["requests"]["total"] - before["requests"]["total"] >= done + 9
            assert errors_since(before, after) == {"VALIDATION_ERROR": 1, "SESSION_ERROR": 1}
            assert [by_pid(after, worker)["anonymous"] for worker in pool.workers] == [1, 2]
            assert sum(one["attached"] for one in after["workers"]) == 9
            assert sum(one["steps"] for one in after["workers"]) == after["steps"]["total"]
            assert {one["state"] for one in after["workers"]} == {"ready"}
            assert all(one["resident_bytes"] > 10_000_000 for one in after["workers"])
            [redis] = after["redis"]
            assert (redis["node"], redis["role"], redis["state"]) == (f"127.0.0.1:{pool.redis.port}", "primary", "up")
            assert (redis["aof"], redis["fsync"]) == (True, "always")


async def test_under_load_there_are_rates_and_latencies(pool: Pool) -> None:
    stop = asyncio.Event()

    async def load(socket: Socket) -> None:
        await socket.reset()
        while not stop.is_set():
            await socket.step()

    def busy(url: str) -> Told | None:
        seen = told(url)
        return seen if all(one["steps_per_s"] > 0 for one in seen["workers"]) else None

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        for worker in pool.workers:
            tasks.create_task(load(await stack.enter_async_context(Socket(worker, uuid4().hex))))
        try:
            for url in pool.urls:
                seen = await until(partial(asyncio.to_thread, busy, url), "steps a second at both workers")
                assert seen["steps"]["per_s"] == pytest.approx(
                    sum(one["steps_per_s"] for one in seen["workers"]), abs=0.2
                )
                assert seen["requests"]["per_s"] > 0
                latency = seen["latency_ms"]
                assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"]
                for one in seen["workers"]:
                    assert one["latency_ms"]["p50"] > 0
                    assert one["redis_round_trip_ms"]["p50"] > 0
                    assert one["cpu"] > 0
        finally:
            stop.set()


async def test_a_killed_worker_turns_silent_and_then_goes(pool: Pool) -> None:
    dead, alive = pool.workers
    async with Socket(dead) as socket:
        await socket.reset()
        await until(lambda: by_pid(told(alive.url), dead).get("anonymous") == 1, "its socket told")
        dead.kill()
        seen = by_pid(told(alive.url), dead)
        assert seen["state"] == "ready", "nobody knows better yet"
        await until(lambda: by_pid(told(alive.url), dead)["state"] == "silent", "silence")
    after = told(alive.url)
    seen = by_pid(after, dead)
    assert seen["seen_s"] >= 6
    assert (seen["steps_per_s"], seen["cpu"]) == (0, 0)
    assert after["sessions"]["attached"] == by_pid(after, alive)["attached"], "its sockets are gone"
    with pool.redis.client() as client:  # rather than wait for half a minute
        said: bytes = client.hget(WORKERS, seen["worker_id"])
        client.hset(WORKERS, seen["worker_id"], b"%013d" % (int(said[:13]) - 30_000) + said[13:])
    assert by_pid(told(alive.url), dead) == {}


async def test_a_draining_worker_shows_at_once_and_one_that_left_is_gone(pool: Pool) -> None:
    leaving, staying = pool.workers
    async with Socket(leaving) as anonymous:
        await anonymous.reset()
        leaving.send(signal.SIGTERM)
        await until(lambda: by_pid(told(staying.url), leaving)["state"] == "draining", "draining")
        await anonymous.send("close")
        assert await leaving.exit_code() == 0
    assert by_pid(told(staying.url), leaving) == {}


async def test_what_another_release_says_is_listed_as_far_as_it_is_understood(pool: Pool) -> None:
    with pool.redis.client() as client:
        stamp = b"%013d" % (client.time()[0] * 1000)
        newer = b'{"host":"elsewhere","pid":7,"steps":5,"attached":2,"step_ms":[[0.0,0.25,3],[0.25,null,1]],"novel":{}}'
        client.hset(WORKERS, mapping={"newer": stamp + newer, "garbled": stamp + b"\xff{"})
        try:
            seen = told(pool.balancer.url)
        finally:
            client.hdel(WORKERS, "newer", "garbled")
    validate(seen, SCHEMA)
    listed = {one["worker_id"]: one for one in seen["workers"]}
    assert (listed["newer"]["steps"], listed["newer"]["host"], listed["newer"]["version"]) == (5, "elsewhere", None)
    assert listed["newer"]["latency_ms"]["p99.9"] == 0.25
    assert (listed["garbled"]["steps"], listed["garbled"]["host"]) == (0, None)


def test_only_operators_look(pool_of_two: Pool) -> None:
    for headers in ({"Host": "metagame.example"}, {"X-Forwarded-For": "203.0.113.7"}):
        _refused(pool_of_two.balancer.url, headers)


def _refused(url: str, headers: dict[str, str]) -> None:
    refused = httpx.get(f"{url}/pool", headers=headers, trust_env=False)
    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
    assert "workers" not in refused.json()


async def test_while_redis_is_away_a_worker_tells_what_it_knows(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        redis_server(tmp_path_factory.mktemp("redis")) as redis,
        run_server(METAGAME_REDIS_URL=redis.url) as server,
    ):
        assert told(server.url)["sessions"]["total"] == 0
        with redis.asleep():
            for _ in range(2):
                _tells_of_itself_alone(server, redis)
        await until(lambda: told(server.url)["sessions"]["total"] == 0, "Redis awake again")
        redis.stop()
        _tells_of_itself_alone(server, redis)
        redis.start()
        await until(lambda: told(server.url)["sessions"]["total"] == 0, "Redis back")
        assert told(server.url)["redis"][0]["state"] == "up"


def _tells_of_itself_alone(server: Server, redis: RedisServer) -> None:
    began = monotonic()
    seen = told(server.url)
    assert monotonic() - began < 4, "it hangs"
    validate(seen, SCHEMA)
    assert (seen["sessions"]["total"], seen["sessions"]["detached"], seen["sessions"]["attached"]) == (None, None, 0)
    assert [(one["pid"], one["state"]) for one in seen["workers"]] == [(server.process.pid, "ready")]
    [node] = seen["redis"]
    assert (node["node"], node["state"]) == (f"127.0.0.1:{redis.port}", "down")


async def test_a_worker_without_redis_is_a_pool_of_its_own(echo_server: Server) -> None:
    name = uuid4().hex

    class Here:
        url = echo_server.url

    async with Socket(Here(), name) as socket:
        await socket.reset()
        await socket.step()
        seen = told(echo_server.url)
        validate(seen, SCHEMA)
        assert (seen["store"], seen["redis"], len(seen["workers"])) == ("memory", [], 1)
        assert (seen["sessions"]["total"], seen["sessions"]["attached"], seen["sessions"]["anonymous"]) == (1, 1, 0)
        assert (seen["steps"]["total"], seen["workers"][0]["steps"]) == (1, 1)
        assert seen["latency_ms"]["p50"] > 0
        assert seen["workers"][0]["redis_round_trip_ms"] is None
        assert seen["workers"][0]["pid"] == echo_server.process.pid
    await until(lambda: told(echo_server.url)["sessions"]["detached"] == 1, "detached")


async def test_every_node_of_a_cluster_is_told(cluster_at: list[RedisServer]) -> None:
    url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in cluster_at)
    with run_server(METAGAME_REDIS_URL=url) as server:
        assert {(node["node"], node["state"]) for node in told(server.url)["redis"]} == {
            (f"127.0.0.1:{node.port}", "up") for node in cluster_at
        }


async def test_workers_of_one_supervisor_are_told_each_by_itself(redis_at: RedisServer) -> None:
    with run_server(METAGAME_REDIS_URL=redis_at.url, METAGAME_WORKERS="2") as server:

        class Here:
            url = server.url

        await until(lambda: len(told(server.url)["workers"]) == 2, "both workers")
        async with AsyncExitStack() as stack:
            for number in range(1, 9):
                socket = await stack.enter_async_context(Socket(Here(), uuid4().hex))
                await socket.reset()
                for _ in range(number):
                    await socket.step()
            for _ in range(4):  # whichever of the two answers
                seen = await until(partial(told_all, server.url, steps=36, attached=8), "all steps and sockets")
                assert len({one["pid"] for one in seen["workers"]} - {server.process.pid}) == 2
                assert sum(one["steps"] for one in seen["workers"]) == 36
        _refused(server.url, {"X-Forwarded-For": "203.0.113.7"})


async def test_under_production_mode_the_pool_is_told_as_well() -> None:
    with run_server(METAGAME_MODE="production") as server:
        validate(told(server.url), SCHEMA)
