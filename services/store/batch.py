"""All commands of one event-loop tick in one write to Redis.

Owned here: queues and their bounds, what follows from a server's failure for those that wait
for it, how long one may wait, and where a redirected command goes. Not here: what becomes of a batch on its
connection (line.py), connections (connect.py gives the client, lanes.py its connections), and what
commands mean.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable
from functools import cached_property, partial
from typing import Any

from redis.exceptions import RedisError

from ..meter import Meter
from ..meter.layout import GIVEN_UP
from .base import StoreUnavailable
from .contact import Contact
from .gate import Gate
from .lanes import Connection, Lane, Lanes, transport_of
from .line import Line
from .request import Receiver, Replicas, Report, Request
from .scripts import Command

MAX_COMMANDS = 256
MAX_BYTES = 4 * 1024 * 1024
MAX_IN_FLIGHT = 2
"""Batches on the way to one server; with replicas to wait for one, since the next would wait for its WAIT."""
MAX_WAITING = 65_536

_CLOSED = "the store is closed"


class _Queue:
    """One server's commands that wait, the line to it, and whether it works."""

    __slots__ = ("gate", "lane", "line", "opening", "scheduled", "waiting")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.waiting: deque[Request] = deque()
        self.scheduled = False
        self.opening: asyncio.Task[None] | None = None
        self.line: Line | None = None
        self.gate = Gate()

    @property
    def trying(self) -> bool:
        """Whether somebody is finding out about the server."""
        return self.opening is not None or (self.line is not None and self.line.in_flight > 0)


class Batcher:
    """Sends commands and hands out futures of their replies."""

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        lanes: Lanes,
        contact: Contact,
        *,
        timeout_s: float,
        meter: Meter,
        replicas: Replicas | None = None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._lanes = lanes
        self._contact = contact
        self._timeout_s = timeout_s
        self._meter = meter
        self._replicas = replicas
        self._max_in_flight = MAX_IN_FLIGHT if replicas is None else 1
        self._max_waiting = max_waiting
        self._waiting = 0
        self._queues: dict[str, _Queue] = {}
        self._unrouted: list[Request] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._routing: asyncio.Task[None] | None = None
        self._routes = Gate()
        self._closed = False

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the first command; asking for the running one costs a system call each time."""
        return asyncio.get_running_loop()

    def send(self, command: Command) -> asyncio.Future[Any]:
        """The future of the reply: it raises StoreUnavailable, after `timeout_s` at the latest.

        Cancelling it harms nobody else.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        self.ask(command, future)
        return future

    def ask(self, command: Command, receiver: Receiver) -> None:
        """Send for a receiver that need not be a future; raises StoreUnavailable where too many wait."""
        if self._waiting >= self._max_waiting:
            self._contact.lost()
            message = f"{self._waiting} commands are waiting for Redis already"
            raise StoreUnavailable(message, unknown=False)
        lane = self._lanes.of(command.key)
        request = Request(command, receiver, self._loop.time() + self._timeout_s)
        if lane is None:
            self._reroute(request)
        else:
            self._enqueue(request, lane)

    async def close(self) -> None:
        """Fail what waits, let what is in flight come home."""
        self._closed = True
        for queue in self._queues.values():
            self._fail_waiting(queue, _CLOSED)
            if queue.line is not None:
                queue.line.close()
            if queue.opening is not None:
                queue.opening.cancel()
        while tasks := [*self._tasks, *([self._routing] if self._routing else [])]:
            await asyncio.gather(*tasks, return_exceptions=True)

    def _enqueue(self, request: Request, lane: Lane) -> None:
        queue = self._queues.get(lane.name)
        if queue is None or queue.lane is not lane:
            queue = self._replace(queue, lane)
        if self._closed:
            self._fail([request], _CLOSED)
            return
        if queue.gate.away and queue.gate.refuses(self._loop.time(), trying=queue.trying):
            self._fail([request], queue.gate.reason)
            return
        self._waiting += 1
        queue.waiting.append(request)
        if not queue.scheduled:
            queue.scheduled = True
            # Not before the loop has looked at its sockets: nothing is written to a line that was closed meanwhile.
            self._loop.call_later(0, self._flush, queue)

    def _replace(self, old: _Queue | None, lane: Lane) -> _Queue:
        """A queue for a lane that is new, or new under its name."""
        queue = self._queues[lane.name] = _Queue(lane)
        if old is not None:
            queue.waiting, old.waiting = old.waiting, queue.waiting
            if old.line is not None:
                old.line.close()
        return queue

    def _flush(self, queue: _Queue) -> None:
        queue.scheduled = False
        line = queue.line
        if line is None or not line.usable:
            queue.line = None
            if queue.waiting and queue.opening is None:
                task = queue.opening = self._loop.create_task(self._connect(queue))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            return
        now = self._loop.time()
        limit = 1 if queue.gate.away else self._max_in_flight
        while queue.waiting and line.in_flight < limit and line.writable:
            batch = self._next_batch(queue.waiting, now)
            if batch:
                line.send(batch, now)

    def _next_batch(self, waiting: deque[Request], now: float) -> list[Request]:
        batch: list[Request] = []
        size = 0
        while waiting and len(batch) < MAX_COMMANDS and size < MAX_BYTES:
            request = waiting.popleft()
            self._waiting -= 1
            if request.until <= now:
                self._fail([request], "its turn did not come in time")
            elif not request.receiver.done():  # nobody waits for a cancelled one, and it was not sent
                batch.append(request)
                size += len(request.packed)
        return batch

    async def _connect(self, queue: _Queue) -> None:
        """Take a connection for the queue, and keep it as long as its line lives."""
        try:
            # The oldest one's; a time-out of each address bounds no list of addresses.
            until = min([request.until for request in queue.waiting], default=None)
            async with asyncio.timeout_at(until):
                connection = await queue.lane.take()
        except Exception as error:  # noqa: BLE001 - whatever broke, no caller may hang
            self._refrain(queue, error)
            return
        try:
            await self._tend(queue, connection)
        except Exception as error:  # noqa: BLE001 - likewise, should redis-py not be made as we know it
            self._refrain(queue, error)
        finally:
            with contextlib.suppress(RedisError):
                await connection.disconnect()
            await queue.lane.give(connection)

    def _refrain(self, queue: _Queue, error: Exception) -> None:
        queue.opening = None
        self._give_up(queue, f"no connection: {error}")

    async def _tend(self, queue: _Queue, connection: Connection) -> None:
        """A line over the connection, from its first batch to its end."""
        ended = asyncio.Event()
        line = Line(
            self._loop,
            patience_s=connection.socket_timeout or self._timeout_s,
            replicas=self._replicas,
            meter=self._meter,
            asking=queue.lane.asking,
            settled=partial(self._settle, queue),
            resumed=partial(self._flush, queue),
            ended=ended.set,
        )
        line.open(transport_of(connection))
        queue.opening = None
        if self._closed or self._queues[queue.lane.name] is not queue:
            line.close()
        else:
            queue.line = line
            self._flush(queue)
        await ended.wait()
        if queue.line is line:
            queue.line = None

    def _settle(self, queue: _Queue, line: Line, report: Report) -> None:
        """What a batch's fate means for its server, and for the requests sent on to another one."""
        if report.failed:
            self._contact.lost()
        if report.elsewhere:
            self._lanes.doubt(queue.lane)
        if report.given_up is None:
            self._contact.seen()
            queue.gate.worked()
        elif queue.line is line:  # else it was said by the batch before
            queue.line = None
            self._give_up(queue, report.given_up)
        for request, named, port in report.redirected:
            host = named or queue.lane.host
            lane = None if queue.lane.asking else self._lanes.at(host, port)
            if lane is not None:
                self._enqueue(request, lane)
                continue
            hint = "again" if queue.lane.asking else "as by a cluster, whose URL is redis+cluster://"
            self._fail([request], f"redirected to {host}:{port}, {hint}")
            self._lanes.doubt(queue.lane)
        if queue.waiting and not queue.scheduled:
            self._flush(queue)

    def _fail(self, requests: Iterable[Request], reason: str) -> None:
        """Tell senders that nothing was sent, or nothing done."""
        self._contact.lost()
        for request in requests:
            request.fail(StoreUnavailable(reason, unknown=False))

    def _fail_waiting(self, queue: _Queue, reason: str) -> None:
        self._waiting -= len(queue.waiting)
        waiting, queue.waiting = queue.waiting, deque()
        self._fail(waiting, reason)

    def _give_up(self, queue: _Queue, reason: str) -> None:
        """Fail what waits for a server that does not work: batch after batch would fail as this one did."""
        self._lanes.doubt(queue.lane)
        self._meter.count(GIVEN_UP)
        queue.gate.failed(self._loop.time(), reason)
        self._fail_waiting(queue, reason)

    def _reroute(self, request: Request) -> None:
        """Ask where keys live, once for all that wait for it."""
        if self._routing is None:
            if self._routes.refuses(self._loop.time(), trying=False):
                self._fail([request], self._routes.reason)
                return
            self._routing = self._loop.create_task(self._route())
        self._waiting += 1
        self._unrouted.append(request)

    async def _route(self) -> None:
        reason = "no node serves this key"
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._lanes.learn()
        except Exception as error:  # noqa: BLE001 - whatever broke, no caller may hang
            reason = f"no connection: {error}"
            self._routes.failed(self._loop.time(), reason)
        else:
            self._routes.worked()
        self._routing = None
        requests, self._unrouted = self._unrouted, []
        self._waiting -= len(requests)
        for request in requests:
            lane = self._lanes.of(request.command.key)
            if lane is None:
                self._fail([request], reason)
            else:
                self._enqueue(request, lane)
