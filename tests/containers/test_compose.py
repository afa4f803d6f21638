"""`docker compose` with everything that happens to a pool, under load: nothing is seen by our clients."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from websockets.asyncio.client import connect

from metagame import AsyncMetaGameEnv, MetaGameAction, MetaGameEnv
from tests.balancer.certificates import make_certificate
from tests.containers import engine
from tests.containers.compose import ComposePool, compose_pool
from tests.openenv.conftest import openenv
from tests.openenv.validate import failed_criteria
from tests.survival.conftest import stock
from tests.survival.load import Load
from tests.survival.stock import StockClients

__all__ = ["openenv", "stock"]

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]
FIRST_ANSWER_S = 30.0
WORKERS = 2


@pytest.fixture(scope="module")
def started(image: str) -> Iterator[tuple[ComposePool, float]]:
    """The pool and how long `make up` took to its first answer."""
    with compose_pool() as pool:
        yield pool, pool.first_answer_s()


@pytest.fixture
def pool(started: tuple[ComposePool, float]) -> ComposePool:
    """Two workers in rotation, whatever the test before has left."""
    one, _ = started
    one.scale(WORKERS)
    return one


async def under_load(pool: ComposePool, *events: Callable[[], Any]) -> None:
    """Let each happen while clients play; every one of them must go on behind it, at its own next step."""
    async with Load(pool.url) as load:
        for event in events:
            await asyncio.to_thread(event)
            await load.goes_on()
        await load.finish()


async def test_the_first_answer_comes_within_30_s_of_make_up(started: tuple[ComposePool, float]) -> None:
    _, took_s = started
    assert took_s < FIRST_ANSWER_S


async def test_openenv_validates_the_pool_behind_its_balancer(pool: ComposePool, openenv: Path) -> None:
    assert await asyncio.to_thread(failed_criteria, openenv, pool.url) == []


async def test_scaling_from_3_to_5_to_2_workers_is_not_seen_by_clients(pool: ComposePool) -> None:
    await under_load(pool, *(lambda count=count: pool.scale(count) for count in (3, 5, 2)))


async def test_a_killed_worker_is_not_seen_by_clients(pool: ComposePool) -> None:
    def kill() -> None:
        engine.docker("kill", pool.containers("worker")[0])
        engine.wait_until(lambda: len(pool.up()) == WORKERS - 1, "the dead worker out of rotation")

    await under_load(pool, kill)


async def test_a_paused_worker_leaves_the_rotation_and_its_clients_wait_for_it(pool: ComposePool) -> None:
    worker = pool.containers("worker")[0]

    def pause() -> None:
        engine.docker("pause", worker)
        try:
            engine.wait_until(lambda: len(pool.up()) == WORKERS - 1, "the paused worker out of rotation")
            asyncio.run(play(pool.url))
        finally:
            engine.docker("unpause", worker)
        engine.wait_until(lambda: len(pool.serving()) == WORKERS, "it in rotation again")

    await under_load(pool, pause)


async def test_a_restart_of_redis_is_not_seen_by_clients(pool: ComposePool) -> None:
    def crash() -> None:
        engine.docker("kill", *pool.containers("redis"))
        pool.compose("up", "--detach", "--wait", "redis")

    await under_load(pool, lambda: pool.compose("restart", "redis"), crash)


async def test_a_restart_of_the_balancer_is_not_seen_by_clients(pool: ComposePool) -> None:
    await under_load(pool, lambda: pool.compose("restart", "balancer"))


async def test_a_rolling_update_is_not_seen_by_clients(pool: ComposePool) -> None:
    before = set(pool.containers("worker"))

    def roll() -> None:
        said = pool.run("deploy/roll", METAGAME_SESSION_TTL_S="1800")
        assert f"{WORKERS} of {WORKERS} workers replaced" in said

    await under_load(pool, roll)
    after = pool.containers("worker")
    assert len(after) == WORKERS
    assert not before & set(after)
    for worker in after:
        assert "METAGAME_SESSION_TTL_S=1800" in engine.inspect(worker)["Config"]["Env"]


async def test_a_roll_whose_new_worker_gets_never_ready_leaves_the_old_ones(pool: ComposePool) -> None:
    before = pool.containers("worker")

    def roll() -> None:
        said = pool.run("deploy/roll", code=1, ROLL_TIMEOUT_S="4", METAGAME_REDIS_URL="redis://nowhere:6379/0")
        assert "not ready after 4 s" in said
        assert "2 workers are running, 0 of 2 replaced" in said

    await under_load(pool, roll)
    assert sorted(pool.containers("worker")) == sorted(before)


async def test_a_roll_whose_new_worker_ends_at_once_shows_its_last_words(pool: ComposePool) -> None:
    before = pool.containers("worker")
    said = await asyncio.to_thread(lambda: pool.run("deploy/roll", code=1, METAGAME_SESSION_TTL_S="never"))
    assert "METAGAME_SESSION_TTL_S is 'never'" in said
    assert sorted(pool.containers("worker")) == sorted(before)
    await play(pool.url)


async def test_an_unmodified_openenv_client_keeps_its_own_episode_through_all_of_it(
    pool: ComposePool, stock: StockClients
) -> None:
    name = uuid4().hex
    await stock.call("make", name=name, base_url=f"{pool.url}/sessions/{name}")
    await stock.call("reset", name=name, episode_id=name)
    taken = 0
    for event in (
        lambda: pool.scale(3),
        lambda: engine.docker("kill", pool.containers("worker")[0]),
        lambda: pool.scale(3),
        lambda: pool.run("deploy/roll"),
        lambda: pool.compose("restart", "balancer"),
    ):
        happening = asyncio.ensure_future(asyncio.to_thread(event))
        while not happening.done():
            known, taken = await stock.step_and_state(name, taken)
            assert known == name
        happening.result()
    assert taken > 0
    await stock.call("close", name=name)


async def test_sessions_survive_down_and_up(pool: ComposePool) -> None:
    async with httpx.AsyncClient(base_url=pool.url, trust_env=False, timeout=30) as client:
        await client.post("/sessions/kept/reset", json={"episode_id": "e"})
        await client.post("/sessions/kept/step", json={"action": {"message": "abc"}})
        assert "delete them with" in await asyncio.to_thread(pool.run, "make", "down")
        await asyncio.to_thread(pool.run, "make", "up")
        state = (await client.get("/sessions/kept/state")).json()
        assert (state["episode_id"], state["step_count"]) == ("e", 1)


def test_containers_may_do_no_more_than_they_need(pool: ComposePool) -> None:
    for service in ("balancer", "worker", "redis"):
        for container in pool.containers(service):
            host = engine.inspect(container)["HostConfig"]
            assert host["ReadonlyRootfs"]
            assert host["CapDrop"] == ["ALL"]
            assert "no-new-privileges:true" in host["SecurityOpt"]
            assert host["RestartPolicy"]["Name"] == "unless-stopped"
            assert [(limit["Name"], limit["Hard"]) for limit in host["Ulimits"]] == [("nofile", 20000)]


def test_only_the_balancer_is_published_and_on_loopback_and_it_cannot_reach_redis(pool: ComposePool) -> None:
    networks: dict[str, set[str]] = {}
    for service in ("balancer", "worker", "redis"):
        settings = engine.inspect(pool.containers(service)[0])["NetworkSettings"]
        networks[service] = {name.removeprefix(f"{pool.project}_") for name in settings["Networks"]}
        published = {bound["HostIp"] for ports in settings["Ports"].values() for bound in ports or []}
        assert published == ({"127.0.0.1"} if service == "balancer" else set())
    assert networks == {"balancer": {"pool"}, "worker": {"pool", "store"}, "redis": {"store"}}
    assert engine.inspect(f"{pool.project}_store")["Internal"] is True


def test_redis_keeps_every_write_evicts_nothing_and_wants_its_password(pool: ComposePool) -> None:
    redis = pool.containers("redis")[0]
    for name, value in {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "maxmemory": str(2**30),
    }.items():
        assert engine.docker("exec", redis, "redis-cli", "config", "get", name).split() == [name, value]
    refused = engine.docker("exec", "--env", "REDISCLI_AUTH=", redis, "redis-cli", "ping", both=True)
    assert "NOAUTH" in refused
    assert engine.inspect(redis)["Config"]["Cmd"] is None or "metagame" not in engine.inspect(redis)["Config"]["Cmd"]


def test_the_balancer_is_healthy_only_with_a_worker(pool: ComposePool) -> None:
    balancer = pool.containers("balancer")[0]
    engine.wait_until(lambda: engine.inspect(balancer)["State"]["Health"]["Status"] == "healthy", "it healthy")
    pool.compose("stop", "worker")
    engine.wait_until(lambda: engine.inspect(balancer)["State"]["Health"]["Status"] == "unhealthy", "it unhealthy")
    answer = httpx.post(f"{pool.url}/reset", trust_env=False)
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)


def test_a_password_that_no_url_can_hold_is_refused_with_a_reason(image: str) -> None:
    with compose_pool(REDIS_PASSWORD="a b") as other:
        other.compose("up", "--detach", "redis")
        engine.wait_until(lambda: "may hold letters, digits" in other.compose("logs", "redis"), "the reason in its log")


def asked(url: str, path: str, **headers: str) -> int:
    """What a client outside is answered."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(url + path, headers=named, trust_env=False).status_code


def asked_inside(pool: ComposePool, path: str) -> str:
    """The same of whoever is in a worker's container."""
    code = f"import urllib.request as u; print(u.urlopen('http://localhost:8000{path}').status)"
    return engine.docker("exec", pool.containers("worker")[0], "python", "-c", code)


def test_without_keys_only_a_workers_own_container_sees_the_whole_pool(pool: ComposePool) -> None:
    for path in ("/pool", "/sessions"):
        assert asked_inside(pool, path) == "200"
        for said in ({}, {"host": "localhost"}, {"x_forwarded_for": "127.0.0.1", "host": "localhost"}):
            assert asked(pool.url, path, **said) == 403


def test_with_keys_everybody_needs_one_and_the_pool_tells_of_all_workers(image: str) -> None:
    with compose_pool(METAGAME_API_KEYS="first-key.1,second-key.2") as pool:
        pool.run("make", "up")
        engine.wait_until(lambda: len(pool.serving()) == WORKERS, "both in rotation")
        for path in ("/pool", "/sessions", "/schema"):
            assert asked(pool.url, path) == 401
            assert asked(pool.url, path, x_api_key="third-key.3") == 401
            assert asked(pool.url, path, authorization="Bearer second-key.2") == 200
        with MetaGameEnv(pool.url, api_key="first-key.1") as env:
            env.reset()
            env.step(MetaGameAction(message="abc"))

        def told() -> dict[str, Any]:
            answer = httpx.get(f"{pool.url}/pool", headers={"X-API-Key": "first-key.1"}, trust_env=False)
            seen: dict[str, Any] = answer.json()
            return seen

        engine.wait_until(lambda: told()["steps"]["total"] == 1, "the step told")
        engine.wait_until(lambda: len(told()["workers"]) == WORKERS, "both workers told")
        [redis] = told()["redis"]
        assert (redis["node"], redis["state"], redis["fsync"]) == ("redis:6379", "up", "always")
        assert "first-key" not in pool.compose("logs")


async def test_tls_by_a_file_and_a_new_certificate_without_losing_a_socket(image: str, tmp_path: Path) -> None:
    file = tmp_path / "both.pem"
    first, second = make_certificate(tmp_path), make_certificate(tmp_path)
    file.write_text(first)
    with compose_pool(TLS_PEM=str(file), WORKERS="1") as pool:
        assert f"https://127.0.0.1:{pool.port}" in await asyncio.to_thread(pool.run, "make", "up")
        trust = ssl.create_default_context(cadata=first)
        async with httpx.AsyncClient(base_url=pool.url, verify=trust, trust_env=False) as client:
            assert "; Secure" in (await client.post("/reset")).headers["set-cookie"]
        async with connect(f"wss://127.0.0.1:{pool.port}/sessions/a/ws", ssl=trust, proxy=None) as socket:
            file.write_text(second)
            await asyncio.to_thread(pool.compose, "kill", "--signal", "HUP", "balancer")
            shown = certificate_of(second)
            engine.wait_until(
                lambda: ssl.get_server_certificate(("127.0.0.1", pool.port)).strip() == shown, "the new certificate"
            )
            await socket.send('{"type":"reset","data":{}}')
            assert json.loads(await socket.recv())["data"]["reward"] == 0.0


def certificate_of(pem: str) -> str:
    """The first certificate in a PEM file."""
    end = "-----END CERTIFICATE-----"
    return pem[: pem.index(end)] + end


async def play(url: str) -> None:
    """One short episode."""
    async with AsyncMetaGameEnv(url) as env:
        await env.reset()
        assert [(await env.step(MetaGameAction(message="abc"))).metadata["step"] for _ in range(3)] == [1, 2, 3]
