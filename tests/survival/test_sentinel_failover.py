"""A failover to a replica, decided by three sentinels, while clients step through two workers.

What is answered only once all replicas have it outlives the primary, and a primary that comes
back from a pause is fenced. What is answered sooner may be lost, and then every client is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from metagame import AsyncMetaGameEnv, MetaGameAction
from metagame.errors import SessionLost, SessionMoved
from tests.redis_replicas import FENCED, SERVICE, Watched, wait_for, watched
from tests.redis_servers import RedisServer, free_port
from tests.survival.load import CountingBalancer, Load
from tests.survival.workers import Worker, http, until, workers

pytestmark = pytest.mark.anyio
TIMEOUT_S = "2.5"
CLIENTS = 8
ACTION = MetaGameAction(message="abc")


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Watched]:
    """A fenced primary, its replica, and their sentinels."""
    with watched(tmp_path, *FENCED) as servers:
        yield servers


def waiting_workers(servers: Watched, replicas: int) -> dict[str, str]:
    return {
        "METAGAME_REDIS_URL": servers.url,
        "METAGAME_REDIS_TIMEOUT_S": TIMEOUT_S,
        "METAGAME_REDIS_WAIT_REPLICAS": str(replicas),
    }


def refuses(server: RedisServer) -> str:
    """How a server refuses a write; empty where it takes it."""
    with server.client() as client:
        try:
            client.set("a write", "of nobody", px=1)
        except RedisError as refusal:
            return str(refusal)
    return ""


async def leads(servers: Watched, *, replica: bool = True) -> None:
    """Wait until the sentinels have promoted it."""
    server = servers.replica if replica else servers.primary
    await asyncio.to_thread(wait_for, lambda: servers.leads(server), "the failover")


async def test_with_replicas_waited_for_a_killed_primary_loses_and_repeats_nothing(pool: Watched) -> None:
    with workers(2, **waiting_workers(pool, 1)) as two:
        balancer = CountingBalancer([worker.port for worker in two])
        async with balancer.listening() as url, Load(url, clients=CLIENTS) as load:
            await asyncio.to_thread(pool.primary.stop)
            await leads(pool)
            async with http(two[0]) as client:
                # The new primary is alone: what it took now, nobody else would have.
                assert (await client.get("/ready")).json() == {"status": "redis_unavailable"}
                await asyncio.to_thread(pool.primary.start)
                await asyncio.to_thread(pool.convert, pool.primary, pool.replica)
                await load.goes_on()
                assert (await client.get("/ready")).status_code == 200
            await load.finish()


async def test_with_a_replica_to_spare_a_killed_primary_is_not_waited_for(tmp_path: Path) -> None:
    with watched(tmp_path, *FENCED, spares=1) as servers, workers(2, **waiting_workers(servers, 1)) as two:
        balancer = CountingBalancer([worker.port for worker in two])
        async with balancer.listening() as url, Load(url, clients=CLIENTS) as load:
            await asyncio.to_thread(servers.primary.stop)
            await leads(servers)
            await load.goes_on()
            await load.finish()


async def test_with_replicas_waited_for_a_primary_that_slept_through_its_failover_is_fenced(pool: Watched) -> None:
    with workers(2, **waiting_workers(pool, 1)) as two:
        balancer = CountingBalancer([worker.port for worker in two])
        async with balancer.listening() as url, Load(url, clients=CLIENTS) as load:
            with pool.primary.asleep():
                await leads(pool)
            # Awake again it takes itself for the primary until the sentinels tell it, but has no replica any more.
            assert "NOREPLICAS" in await until(lambda: refuses(pool.primary), "the fence")
            await asyncio.to_thread(pool.convert, pool.primary, pool.replica)
            await load.goes_on()
            await load.finish()


@pytest.mark.parametrize("spares", [0, 1])
async def test_with_all_replicas_waited_for_a_failover_that_is_asked_for_loses_and_repeats_nothing(
    tmp_path: Path, spares: int
) -> None:
    """The old primary works on until it is told; what it takes meanwhile, the new one must have."""
    with watched(tmp_path, *FENCED, spares=spares) as pool, workers(2, **waiting_workers(pool, 1 + spares)) as two:
        balancer = CountingBalancer([worker.port for worker in two])
        async with balancer.listening() as url, Load(url, clients=CLIENTS) as load:
            with pool.sentinels[0].client() as sentinel:
                sentinel.execute_command("SENTINEL FAILOVER", SERVICE)
            await leads(pool)
            await asyncio.to_thread(pool.convert, pool.primary, pool.replica)
            await load.goes_on()
            await load.finish()


@pytest.mark.parametrize(
    ("replicas", "spares"),
    [(0, 0), (1, 1)],
    ids=["no replica is waited for", "another replica than the promoted had it"],
)
async def test_each_step_that_a_failover_loses_is_told_to_its_client(
    tmp_path: Path, replicas: int, spares: int
) -> None:
    with (
        watched(tmp_path, spares=spares, failover_timeout_s=30) as servers,
        workers(2, **waiting_workers(servers, replicas)) as two,
    ):
        envs = [
            AsyncMetaGameEnv(worker.url, transport=transport) for worker in two for transport in ("websocket", "http")
        ]
        late = AsyncMetaGameEnv(two[0].url)
        for number, env in enumerate(envs):
            await env.reset(episode_id=f"episode {number}")
            for _ in range(3):
                await env.step(ACTION)
        with servers.replica.client() as replica:
            await until(lambda: caught_up(servers), "the replica has all of it")
            replica.replicaof("127.0.0.1", str(free_port()))  # nothing reaches it from here on
        for env in envs:
            assert (await env.step(ACTION)).metadata["step"] == 4
        await late.reset()
        await late.step(ACTION)
        await asyncio.to_thread(servers.primary.stop)
        await leads(servers)
        for number, env in enumerate(envs):
            with pytest.raises(SessionMoved):
                await env.step(ACTION)
            with pytest.raises(SessionMoved):  # not before the caller has looked
                await env.step(ACTION)
            state = await env.state()
            assert (state.episode_id, state.step_count) == (f"episode {number}", 3)
            assert (await env.step(ACTION)).metadata["step"] == 4
        with pytest.raises(SessionLost):
            await late.step(ACTION)
        for env in (*envs, late):
            await env.close()


async def caught_up(servers: Watched) -> bool:
    with servers.primary.client() as primary, servers.replica.client() as replica:
        offset = primary.info("replication")["master_repl_offset"]
        return bool(replica.info("replication")["slave_repl_offset"] >= offset)


async def test_sentinels_that_want_a_password_get_it(tmp_path: Path) -> None:
    with watched(tmp_path) as servers:
        for sentinel in servers.sentinels:
            with sentinel.client() as client:
                client.execute_command("ACL SETUSER", "asker", "on", ">who:asks&", "allchannels", "+@all")
                client.execute_command("ACL SETUSER", "default", "off")
        login = "sentinel_username=asker&sentinel_password=who%3Aasks%26"
        worker = Worker(METAGAME_REDIS_URL=f"{servers.url}?{login}")
        wrong = Worker(METAGAME_REDIS_URL=f"{servers.url}?sentinel_password=hunter2", METAGAME_REDIS_TIMEOUT_S="1")
        try:
            await asyncio.to_thread(worker.start)
            await asyncio.to_thread(wrong.start, until="/health")
            async with http(wrong) as client:
                assert (await client.get("/ready")).status_code == 503
                await until(lambda: "the session store cannot be reached" in wrong.server.log, "the warning")
            assert SERVICE in servers.url
            assert "hunter2" not in wrong.server.log
        finally:
            worker.end()
            wrong.end()
