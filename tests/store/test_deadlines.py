"""Whatever is asked of a store is answered or given up in time, however slow or many its servers are."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from metagame.errors import Unavailable
from services.resend import Deadline
from services.store.connect import open_client
from services.store.redis import RedisStore

pytestmark = pytest.mark.anyio
TIMEOUT_S = 3.0
SLACK_S = 1.5
"""What a busy machine may add; without a bound of the whole the times are twice as long and more."""
BATCH_S = 0.4
"""What a slow Redis takes, under half of what an attempt may."""
REQUESTS = 8_000
"""More than a slow Redis answers in time, and few enough that a busy machine has asked for all with time to spare."""
ABSENT = b"$-1\r\n"


def store_at(url: str) -> RedisStore:
    client = open_client(url, timeout_s=TIMEOUT_S)
    return RedisStore(client, max_sessions=10, ttl_ms=60_000, timeout_s=TIMEOUT_S)


async def ask(store: RedisStore, name: str) -> tuple[float, bool]:
    """How long a request took, and whether it was answered."""
    began = monotonic()
    try:
        await Deadline(TIMEOUT_S, repeatable=True).read(store.load, name)
    except Unavailable:
        return monotonic() - began, False
    return monotonic() - began, True


@pytest.mark.parametrize("scheme", ["cluster", "sentinel"])
async def test_many_addresses_that_do_not_answer_take_no_longer_than_one(scheme: str) -> None:
    with contextlib.ExitStack() as listening:
        ports = []
        for _ in range(9):
            one = listening.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            one.listen()
            ports.append(one.getsockname()[1])
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        store = store_at(f"redis+{scheme}://{hosts}{'/name' if scheme == 'sentinel' else ''}")
        took_s, answered = await ask(store, "s")
        await store.close()
    assert not answered
    assert took_s < TIMEOUT_S + SLACK_S


@contextlib.asynccontextmanager
async def slow_redis() -> AsyncIterator[int]:
    """A server that takes its time for each batch."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while asked := await reader.read(1 << 20):
                await asyncio.sleep(BATCH_S)
                writer.write(ABSENT * asked.count(b"GETEX") + b"+OK\r\n" * asked.count(b"CLIENT"))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_requests_whose_turn_at_a_slow_redis_does_not_come_are_given_up_in_time() -> None:
    async with slow_redis() as port:
        store = store_at(f"redis://127.0.0.1:{port}")
        found = await asyncio.gather(*[ask(store, f"s{number}") for number in range(REQUESTS)])
        await store.close()
    assert max(took_s for took_s, _ in found) < TIMEOUT_S + SLACK_S
    assert {answered for _, answered in found} == {True, False}
