"""All commands of one event-loop tick in one write to Redis.

Owned here: queues and their bounds, which failure leaves an outcome unknown, and the rerun of
what was certainly not run (NOSCRIPT). Not here: connections (connect.py gives the client,
lanes.py its connections) and what commands mean.

Replies are read from redis-py's connections directly, not through its pipelines: those say
neither whether a failed command had been sent, nor (on a cluster) refrain from sending again.
A command of unknown outcome is never sent twice by anything here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

from hiredis import pack_command
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from .base import StoreUnavailable
from .contact import Contact
from .lanes import Connection, Lane, Lanes
from .scripts import Command

MAX_COMMANDS = 256
MAX_BYTES = 4 * 1024 * 1024
MAX_IN_FLIGHT = 4
MAX_WAITING = 65_536

_NO_CONNECTION = (RedisError, RedisClusterException, OSError, TimeoutError)
_ELSEWHERE = (MovedError, AskError, ClusterDownError, TryAgainError)
_RECONNECT = (ReadOnlyError, BusyLoadingError, AuthenticationError, ClusterDownError)
_REFUSALS = (ResponseError, BusyLoadingError, AuthenticationError)
"""Error replies; redis-py gives the last two the base class of lost connections."""


class _Request:
    """A command on its way, and the future its sender awaits."""

    __slots__ = ("command", "future")

    def __init__(self, command: Command, future: asyncio.Future[Any]) -> None:
        self.command = command
        self.future = future

    def answer(self, reply: Any) -> None:
        if not self.future.done():  # its sender may have been cancelled
            self.future.set_result(reply)

    def fail(self, error: StoreUnavailable) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _Queue:
    """One server's commands that wait, and how many batches of it are in flight."""

    __slots__ = ("in_flight", "lane", "scheduled", "waiting")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.waiting: deque[_Request] = deque()
        self.scheduled = False
        self.in_flight = 0


class Batcher:
    """Sends commands and hands out futures of their replies."""

    def __init__(self, lanes: Lanes, contact: Contact, *, max_waiting: int = MAX_WAITING) -> None:
        self._lanes = lanes
        self._contact = contact
        self._max_waiting = max_waiting
        self._waiting = 0
        self._queues: dict[str, _Queue] = {}
        self._unrouted: list[_Request] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._routing: asyncio.Task[None] | None = None

    def send(self, command: Command) -> asyncio.Future[Any]:
        """The future of the reply: it raises StoreUnavailable; cancelling it harms nobody else."""
        if self._waiting >= self._max_waiting:
            message = f"{self._waiting} commands are waiting for Redis already"
            raise self._unavailable(message, unknown=False)
        loop = asyncio.get_running_loop()
        request = _Request(command, loop.create_future())
        self._waiting += 1
        self._enqueue(request, loop)
        return request.future

    async def close(self) -> None:
        """Fail what waits, let what is in flight come home."""
        for queue in self._queues.values():
            self._fail(queue.waiting, "the store is closed", unknown=False)
            self._waiting -= len(queue.waiting)
            queue.waiting.clear()
        await asyncio.gather(*self._tasks, *([self._routing] if self._routing else []), return_exceptions=True)

    def _enqueue(self, request: _Request, loop: asyncio.AbstractEventLoop) -> None:
        lane = self._lanes.of(request.command.key)
        if lane is None:
            self._unrouted.append(request)
            self._reroute()
            return
        queue = self._queues.get(lane.name)
        if queue is None or queue.lane is not lane:
            queue = self._queues[lane.name] = _Queue(lane)
        queue.waiting.append(request)
        if not queue.scheduled:
            queue.scheduled = True
            loop.call_soon(self._flush, queue)

    def _flush(self, queue: _Queue) -> None:
        queue.scheduled = False
        while queue.waiting and queue.in_flight < MAX_IN_FLIGHT:
            batch = self._next_batch(queue.waiting)
            if not batch:
                return
            queue.in_flight += 1
            task = asyncio.get_running_loop().create_task(self._run(queue, batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next_batch(self, waiting: deque[_Request]) -> list[_Request]:
        batch: list[_Request] = []
        size = 0
        while waiting and len(batch) < MAX_COMMANDS and size < MAX_BYTES:
            request = waiting.popleft()
            self._waiting -= 1
            if not request.future.done():  # nobody waits for a cancelled one, and it was not sent
                batch.append(request)
                size += sum(map(len, request.command.words))
        return batch

    async def _run(self, queue: _Queue, batch: list[_Request]) -> None:
        try:
            try:
                connection = await queue.lane.take()
            except _NO_CONNECTION as error:
                self._fail(batch, f"no connection: {error}", unknown=False)
                self._give_up(queue.lane)
                return
            try:
                await self._exchange(queue.lane, connection, batch)
            finally:
                await queue.lane.give(connection)
        except Exception as error:  # noqa: BLE001 - whatever broke, no caller may hang
            self._fail(batch, f"{type(error).__name__}: {error}", unknown=True)
        finally:
            queue.in_flight -= 1
            if queue.waiting and not queue.scheduled:
                self._flush(queue)

    async def _exchange(self, lane: Lane, connection: Connection, batch: list[_Request]) -> None:
        unloaded = await self._round_trip(lane, connection, batch, [request.command.words for request in batch])
        if unloaded:
            sources = [
                ("EVAL", request.command.script.source, *request.command.words[2:])
                for request in unloaded
                if request.command.script is not None
            ]
            await self._round_trip(lane, connection, unloaded, sources)

    async def _round_trip(
        self, lane: Lane, connection: Connection, batch: list[_Request], words: list[tuple[bytes | str, ...]]
    ) -> list[_Request]:
        """Send and read; the requests whose script Redis does not know, for a rerun."""
        unloaded: list[_Request] = []
        answered = 0
        reconnect = False
        try:
            packed = b"".join([pack_command(one) for one in words])  # type: ignore[arg-type] # its stub: one word only
            await connection.send_packed_command(packed, check_health=False)
            for request in batch:
                try:
                    reply = await connection.read_response(disconnect_on_error=False)
                except NoScriptError:
                    unloaded.append(request)
                except _REFUSALS as refusal:
                    self._refuse(lane, request, refusal)
                    reconnect = reconnect or isinstance(refusal, _RECONNECT)
                else:
                    request.answer(reply)
                answered += 1
        except (RedisError, OSError, TimeoutError) as error:
            await connection.disconnect(nowait=True)
            if isinstance(error.__context__, ReadOnlyError):  # how redis-py's Sentinel tells a demoted master
                self._refuse(lane, batch[answered], error)
            self._fail(batch[answered:], f"connection lost: {error}", unknown=True)
            self._fail(unloaded, f"connection lost: {error}", unknown=False)
            self._give_up(lane)
            return []
        except BaseException:
            await connection.disconnect(nowait=True)  # unread replies would be taken for the next batch's
            raise
        if reconnect:
            await connection.disconnect()
            self._fail(unloaded, "connection given up", unknown=False)
            return []
        self._contact.seen()
        return unloaded

    def _refuse(self, lane: Lane, request: _Request, refusal: Exception) -> None:
        request.fail(self._unavailable(f"refused: {refusal}", unknown=False))
        if isinstance(refusal, _ELSEWHERE):
            self._lanes.doubt(lane)

    def _fail(self, requests: Iterable[_Request], reason: str, *, unknown: bool) -> None:
        for request in requests:
            request.fail(self._unavailable(reason, unknown=unknown))

    def _give_up(self, lane: Lane) -> None:
        """Fail what waits for a server that does not answer: batch after batch would time out as this one did."""
        self._lanes.doubt(lane)
        queue = self._queues.get(lane.name)
        if queue is not None:
            self._waiting -= len(queue.waiting)
            waiting, queue.waiting = queue.waiting, deque()
            self._fail(waiting, "its server does not answer", unknown=False)

    def _unavailable(self, reason: str, *, unknown: bool) -> StoreUnavailable:
        self._contact.lost()
        return StoreUnavailable(reason, unknown=unknown)

    def _reroute(self) -> None:
        """Ask where keys live, once for all that wait for it."""
        if self._routing is None:
            self._routing = asyncio.get_running_loop().create_task(self._route())

    async def _route(self) -> None:
        reason = "no node serves this key"
        try:
            await self._lanes.learn()
        except Exception as error:  # noqa: BLE001 - whatever broke, no caller may hang
            reason = f"no connection: {error}"
        self._routing = None
        requests, self._unrouted = self._unrouted, []
        for request in requests:
            if self._lanes.of(request.command.key) is None:
                self._waiting -= 1
                self._fail([request], reason, unknown=False)
            else:
                self._enqueue(request, asyncio.get_running_loop())
