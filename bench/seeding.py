"""Sessions in a Redis by the thousand: made by a worker one by one, or copied from one that a worker made.

A copy is the same bytes under another name, with a place in the pool of its own. Places fall due over the whole time
that a session lives, as where sessions were made at all times, so that workers examine as many a second as they would.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from redis import Redis

from metagame.load.connections import Http
from metagame.load.opening import answer, connect
from metagame.load.spec import MESSAGE, Sockets

KEY = "metagame:{%s}"
PLACES = "metagame:places:{places}"
CONNECTIONS = 32
CHUNK = 10_000
_REWRITE_DEADLINE_S = 120.0
_LOOK_S = 0.05
_COPY = """
local record, first, last, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local ttl_ms, now_us = tonumber(ARGV[5]), tonumber(ARGV[6])
for at = first, last do
  local name = string.format('%032x', at)
  redis.call('SET', 'metagame:{' .. name .. '}', record, 'PX', ttl_ms)
  redis.call('ZADD', KEYS[1], string.format('%.0f', now_us + 2 * math.floor(ttl_ms * 500 * (at + 1) / count)), name)
end
"""


class Refused(Exception):
    """A worker answered otherwise than with what was asked for; the text is its answer."""


class Session:
    """One session at a time, over a kept-alive connection."""

    def __init__(self, connection: Http) -> None:
        self.name = ""
        self._connection = connection

    async def make(self) -> None:
        """Make a session and go on with it."""
        made = await self._post("/sessions", {}, "session_id")
        self.name = made["session_id"]

    async def reset(self) -> None:
        """Start an episode."""
        await self._post(f"/sessions/{self.name}/reset", {}, "observation")

    async def step(self) -> None:
        """Take a step, with a request id."""
        body = {"action": {"message": MESSAGE}, "request_id": uuid4().hex}
        await self._post(f"/sessions/{self.name}/step", body, "observation")

    async def _post(self, path: str, body: dict[str, Any], must_have: str) -> dict[str, Any]:
        self._connection.transport.write(self._connection.encode("POST", path, json.dumps(body).encode()))
        text = await answer(self._connection)
        answered: dict[str, Any] = {} if text.startswith(b"HTTP ") else json.loads(text)
        if must_have not in answered:
            raise Refused(text[:300].decode(errors="replace"))
        return answered


async def side_by_side(port: int, count: int, work: Callable[[Session, int], Awaitable[None]]) -> None:
    """Do some work `count` times, over as many connections as keep a worker busy; each time has its number."""
    sockets = Sockets(addresses=(("127.0.0.1", port),), count=CONNECTIONS, surface="http")
    numbers = iter(range(count))

    async def one_after_the_other() -> None:
        connection = await connect(sockets, "127.0.0.1", port)
        assert isinstance(connection, Http)  # noqa: S101 - that is the surface asked for
        session = Session(connection)
        try:
            for number in numbers:
                await work(session, number)
        finally:
            connection.drop()

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(one_after_the_other())


async def make_sample(port: int) -> str:
    """The name of a session that has made a step."""
    names: list[str] = []

    async def make(session: Session, _: int) -> None:
        await stepped(session)
        names.append(session.name)

    await side_by_side(port, 1, make)
    return names[0]


async def stepped(session: Session) -> None:
    """Make a session and take its first step."""
    await session.make()
    await session.reset()
    await session.step()


def copied_name(number: int) -> str:
    """The name of a copy."""
    return f"{number:032x}"


def copy(redis: Redis, sample: str, first: int, count: int) -> None:
    """Copies of a session, numbered from `first` to `count`; the append-only file is written when all are there."""
    record: Any = redis.get(KEY % sample)
    ttl_ms: Any = redis.pttl(KEY % sample)
    script = redis.register_script(_COPY)
    with _without_append_only_file(redis):
        seconds, microseconds = redis.time()
        now_us = seconds * 1_000_000 + microseconds
        for start in range(first, count, CHUNK):
            last = min(start + CHUNK, count) - 1
            script(keys=[PLACES], args=[record, start, last, count, ttl_ms, now_us])
        redis.pexpire(PLACES, 2 * ttl_ms)


def used_bytes(redis: Redis) -> int:
    """What the Redis has allocated."""
    info: Any = redis.info("memory")
    return int(info["used_memory"])


@contextmanager
def _without_append_only_file(redis: Redis) -> Iterator[None]:
    redis.config_set("appendonly", "no")
    try:
        yield
    finally:
        redis.config_set("appendonly", "yes")
        _wait_until_written(redis)


def _wait_until_written(redis: Redis) -> None:
    until = time.monotonic() + _REWRITE_DEADLINE_S
    while True:
        info: Any = redis.info("persistence")
        if not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]:
            return
        if time.monotonic() > until:
            message = f"Redis did not write its append-only file within {_REWRITE_DEADLINE_S:g} s"
            raise TimeoutError(message)
        time.sleep(_LOOK_S)
