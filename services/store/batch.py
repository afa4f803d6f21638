"""All commands of one event-loop tick in one write to Redis.

Owned here: queues and their bounds, what follows from a server's failure for those that wait
for it, how long one may wait, and where a redirected command goes. Not here: what becomes of a batch on its connection
(exchange.py), connections (connect.py gives the client, lanes.py its connections), and what
commands mean.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

from redis.exceptions import RedisClusterException, RedisError

from .base import StoreUnavailable
from .contact import Contact
from .exchange import Exchange, Replicas, Report, Request
from .gate import Gate
from .lanes import Lane, Lanes
from .scripts import Command

MAX_COMMANDS = 256
MAX_BYTES = 4 * 1024 * 1024
MAX_IN_FLIGHT = 4
MAX_WAITING = 65_536

_NO_CONNECTION = (RedisError, RedisClusterException, OSError, TimeoutError)


class _Queue:
    """One server's commands that wait, how many batches of it are in flight, and whether it works."""

    __slots__ = ("gate", "in_flight", "lane", "scheduled", "waiting")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.waiting: deque[Request] = deque()
        self.scheduled = False
        self.in_flight = 0
        self.gate = Gate()


class Batcher:
    """Sends commands and hands out futures of their replies."""

    def __init__(
        self,
        lanes: Lanes,
        contact: Contact,
        *,
        timeout_s: float,
        replicas: Replicas | None = None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._lanes = lanes
        self._contact = contact
        self._timeout_s = timeout_s
        self._replicas = replicas
        self._max_waiting = max_waiting
        self._waiting = 0
        self._queues: dict[str, _Queue] = {}
        self._unrouted: list[Request] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._routing: asyncio.Task[None] | None = None
        self._routes = Gate()

    def send(self, command: Command) -> asyncio.Future[Any]:
        """The future of the reply: it raises StoreUnavailable, after `timeout_s` at the latest.

        Cancelling it harms nobody else.
        """
        if self._waiting >= self._max_waiting:
            self._contact.lost()
            message = f"{self._waiting} commands are waiting for Redis already"
            raise StoreUnavailable(message, unknown=False)
        loop = asyncio.get_running_loop()
        request = Request(command, loop.create_future(), loop.time() + self._timeout_s)
        lane = self._lanes.of(command.key)
        if lane is None:
            self._reroute(request, loop)
        else:
            self._enqueue(request, lane, loop)
        return request.future

    async def close(self) -> None:
        """Fail what waits, let what is in flight come home."""
        for queue in self._queues.values():
            self._fail_waiting(queue, "the store is closed")
        await asyncio.gather(*self._tasks, *([self._routing] if self._routing else []), return_exceptions=True)

    def _enqueue(self, request: Request, lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
        queue = self._queues.get(lane.name)
        if queue is None or queue.lane is not lane:
            queue = self._queues[lane.name] = _Queue(lane)
        if queue.gate.away and queue.gate.refuses(loop.time(), trying=queue.in_flight > 0):
            self._fail([request], queue.gate.reason, unknown=False)
            return
        self._waiting += 1
        queue.waiting.append(request)
        if not queue.scheduled:
            queue.scheduled = True
            loop.call_soon(self._flush, queue)

    def _flush(self, queue: _Queue) -> None:
        queue.scheduled = False
        while queue.waiting and queue.in_flight < (1 if queue.gate.away else MAX_IN_FLIGHT):
            batch = self._next_batch(queue.waiting)
            if not batch:
                return
            queue.in_flight += 1
            task = asyncio.get_running_loop().create_task(self._run(queue, batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next_batch(self, waiting: deque[Request]) -> list[Request]:
        batch: list[Request] = []
        size = 0
        now = asyncio.get_running_loop().time()
        while waiting and len(batch) < MAX_COMMANDS and size < MAX_BYTES:
            request = waiting.popleft()
            self._waiting -= 1
            if request.until <= now:
                self._fail([request], "its turn did not come in time", unknown=False)
            elif not request.future.done():  # nobody waits for a cancelled one, and it was not sent
                batch.append(request)
                size += sum(map(len, request.command.words))
        return batch

    async def _run(self, queue: _Queue, batch: list[Request]) -> None:
        until = batch[0].until  # the oldest one's; a time-out of each read bounds no batch, nor a list of addresses
        try:
            try:
                async with asyncio.timeout_at(until):
                    connection = await queue.lane.take()
            except _NO_CONNECTION as error:
                reason = f"no connection: {error}"
                self._fail(batch, reason, unknown=False)
                self._give_up(queue, reason)
                return
            try:
                exchange = Exchange(connection, self._replicas, asking=queue.lane.asking)
                async with asyncio.timeout_at(until):
                    report = await exchange.run(batch)
                self._settle(queue, report)
            except TimeoutError:
                reason = "no answer in time"
                self._fail(batch, reason, unknown=True)
                self._give_up(queue, reason)
            finally:
                await queue.lane.give(connection)
        except Exception as error:  # noqa: BLE001 - whatever broke, no caller may hang
            self._fail(batch, f"{type(error).__name__}: {error}", unknown=True)
        finally:
            queue.in_flight -= 1
            if queue.waiting and not queue.scheduled:
                self._flush(queue)

    def _settle(self, queue: _Queue, report: Report) -> None:
        """What a batch's fate means for its server, and for the requests sent on to another one."""
        if report.failed:
            self._contact.lost()
        if report.elsewhere:
            self._lanes.doubt(queue.lane)
        if report.given_up is None:
            self._contact.seen()
            queue.gate.worked()
        else:
            self._give_up(queue, report.given_up)
        for request, where in report.redirected:
            host = where.host or queue.lane.host
            lane = None if queue.lane.asking else self._lanes.at(host, where.port)
            if lane is not None:
                self._enqueue(request, lane, asyncio.get_running_loop())
                continue
            hint = "again" if queue.lane.asking else "as by a cluster, whose URL is redis+cluster://"
            self._fail([request], f"redirected to {host}:{where.port}, {hint}", unknown=False)
            self._lanes.doubt(queue.lane)

    def _fail(self, requests: Iterable[Request], reason: str, *, unknown: bool) -> None:
        self._contact.lost()
        for request in requests:
            request.fail(StoreUnavailable(reason, unknown=unknown))

    def _fail_waiting(self, queue: _Queue, reason: str) -> None:
        self._waiting -= len(queue.waiting)
        waiting, queue.waiting = queue.waiting, deque()
        self._fail(waiting, reason, unknown=False)

    def _give_up(self, queue: _Queue, reason: str) -> None:
        """Fail what waits for a server that does not work: batch after batch would fail as this one did."""
        self._lanes.doubt(queue.lane)
        queue.gate.failed(asyncio.get_running_loop().time(), reason)
        self._fail_waiting(queue, reason)

    def _reroute(self, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        """Ask where keys live, once for all that wait for it."""
        if self._routing is None:
            if self._routes.refuses(loop.time(), trying=False):
                self._fail([request], self._routes.reason, unknown=False)
                return
            self._routing = loop.create_task(self._route())
        self._waiting += 1
        self._unrouted.append(request)

    async def _route(self) -> None:
        reason = "no node serves this key"
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._lanes.learn()
        except Exception as error:  # noqa: BLE001 - whatever broke, no caller may hang
            reason = f"no connection: {error}"
            self._routes.failed(loop.time(), reason)
        else:
            self._routes.worked()
        self._routing = None
        requests, self._unrouted = self._unrouted, []
        self._waiting -= len(requests)
        for request in requests:
            lane = self._lanes.of(request.command.key)
            if lane is None:
                self._fail([request], reason, unknown=False)
            else:
                self._enqueue(request, lane, loop)
