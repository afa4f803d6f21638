"""Redis comes back to many requests that wait for it: how much of a herd they are is counted, never timed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from services.resend import Deadline
from services.store.base import Outcome, Word
from services.store.batch import MAX_COMMANDS, MAX_IN_FLIGHT
from services.store.connect import open_client
from services.store.gate import LONGEST_PAUSE_S, Gate
from services.store.redis import RedisStore
from tests.redis_servers import Proxy, RedisServer, proxied, redis_server
from tests.store.samples import draft, step, until

pytestmark = pytest.mark.anyio

WAITING = 1500
PATIENCE_S = 60.0
AWAY_S = 2.0


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path, durable=True) as server:
        yield server


def store_at(port: int, timeout_s: float) -> RedisStore:
    client = open_client(f"redis://127.0.0.1:{port}", timeout_s=timeout_s)
    return RedisStore(client, max_sessions=2 * WAITING, ttl_ms=600_000)


async def make_all(server: RedisServer) -> None:
    """The sessions, and every script known."""
    store = store_at(server.port, PATIENCE_S)
    made = await asyncio.gather(*[store.make(f"s{number}", draft()) for number in range(WAITING)])
    assert {outcome.word for outcome in made} == {Word.MADE}
    await store.commit("s0", step(1))
    await store.close()


def ask_all(store: RedisStore) -> asyncio.Future[list[Outcome]]:
    """Every session's first step, as the engine sends it: again until its deadline."""

    async def ask(name: str) -> Outcome:
        return await Deadline(PATIENCE_S, repeatable=True).write(store.commit, name, step(1))

    return asyncio.gather(*[ask(f"s{number}") for number in range(WAITING)])


def scripts_run(server: RedisServer) -> int:
    """How many commands it was sent since its statistics began; a script it did not know counts twice."""
    with server.client() as client:
        stats = client.info("commandstats")
    return sum(seen["calls"] for name, seen in stats.items() if name.startswith("cmdstat_eval"))


async def test_a_redis_that_was_stopped_is_met_by_few_connections_and_one_command_a_request(
    own_redis: RedisServer,
) -> None:
    async with proxied(own_redis.port) as proxy:
        store = store_at(proxy.port, timeout_s=9)
        await make_all(own_redis)
        await store.ping()
        own_redis.stop()
        began, before = asyncio.get_running_loop().time(), proxy.connections
        asked = ask_all(store)
        await asyncio.sleep(AWAY_S)
        tries, away_s = proxy.connections - before, asyncio.get_running_loop().time() - began
        assert 1 < tries <= 2 * MAX_IN_FLIGHT + away_s / (LONGEST_PAUSE_S / 2) + 4  # the first pauses are shorter
        await asyncio.to_thread(own_redis.start)
        back = proxy.connections
        outcomes = await asyncio.wait_for(asked, PATIENCE_S)
        assert {outcome.word for outcome in outcomes[1:]} == {Word.COMMITTED}
        assert proxy.connections - back <= MAX_IN_FLIGHT + 1
        # Sent twice: what was on its way before the script was known again.
        assert scripts_run(own_redis) <= WAITING + MAX_IN_FLIGHT * MAX_COMMANDS
        assert store._batcher._waiting == 0
        await store.close()


async def test_a_redis_that_slept_is_met_by_few_connections_and_at_most_two_commands_a_request(
    own_redis: RedisServer,
) -> None:
    async with proxied(own_redis.port) as proxy:
        store = store_at(proxy.port, timeout_s=1.5)
        await make_all(own_redis)
        await store.ping()
        with own_redis.client() as client:
            client.config_resetstat()
        with own_redis.asleep():
            before = proxy.connections
            asked = ask_all(store)
            await until(lambda: _tried(proxy, before + 3))
            assert proxy.connections - before <= 2 * MAX_IN_FLIGHT
        outcomes = await asyncio.wait_for(asked, PATIENCE_S)
        assert {outcome.word for outcome in outcomes[1:]} <= {Word.COMMITTED, Word.REPLAYED}
        assert proxy.connections - before <= 3 * MAX_IN_FLIGHT
        # Sent once: what did not wait behind the sleeper. Twice: what was with it when it fell asleep.
        assert WAITING <= scripts_run(own_redis) <= WAITING + MAX_IN_FLIGHT * MAX_COMMANDS
        assert store._batcher._waiting == 0
        await store.close()


async def test_a_redis_that_loads_its_data_is_not_asked_by_everybody_again_and_again(own_redis: RedisServer) -> None:
    async with proxied(own_redis.port) as proxy:
        store = store_at(proxy.port, timeout_s=9)
        await make_all(own_redis)
        await store.ping()
        with own_redis.client() as client:
            many = client.pipeline(transaction=False)
            for number in range(40 * 1024):
                many.set(f"ballast {number}", "x", px=600_000)
            many.execute()
        own_redis.stop()
        own_redis._options += ["--key-load-delay", "50"]  # microseconds; it answers after every 1024 commands
        asked = ask_all(store)
        starting = asyncio.create_task(asyncio.to_thread(own_redis.start))
        await until(lambda: _loads(own_redis))
        before = proxy.connections
        await starting
        outcomes = await asyncio.wait_for(asked, PATIENCE_S)
        assert {outcome.word for outcome in outcomes[1:]} == {Word.COMMITTED}
        assert proxy.connections - before <= 8 * MAX_IN_FLIGHT
        assert scripts_run(own_redis) <= WAITING + 2 * MAX_IN_FLIGHT * MAX_COMMANDS
        assert store._batcher._waiting == 0
        await store.close()


async def _loads(server: RedisServer) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    except OSError:
        return False
    writer.write(b"PING\r\n")
    answer = await reader.read(100)
    writer.close()
    return answer.startswith(b"-LOADING")


async def _tried(proxy: Proxy, connections: int) -> bool:
    return proxy.connections >= connections


def test_a_gate_lets_one_through_at_once_then_after_pauses_that_grow_to_a_bound() -> None:
    gate, now = Gate(), 100.0
    assert not gate.refuses(now, trying=True)
    opens = []
    for _ in range(12):
        gate.failed(now, "gone")
        assert gate.away
        assert gate.refuses(now + 3600, trying=True)
        began = now
        while gate.refuses(now, trying=False):
            now += 0.001
        opens.append(now - began)
    assert opens[0] == 0
    assert all(0 < pause <= LONGEST_PAUSE_S + 0.001 for pause in opens[1:])
    assert opens[-1] >= LONGEST_PAUSE_S / 2
    assert any(later > earlier for earlier, later in pairwise(opens))
    gate.worked()
    assert not gate.refuses(now, trying=True)
    gate.failed(now, "gone")
    assert not gate.refuses(now, trying=False)
