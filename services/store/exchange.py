"""One batch on one connection: written, answered, confirmed by replicas.

Owned here: what each request's sender is told, and above all whether a failed one may have been
carried out. Not here: queues (batch.py) and connections (lanes.py).

Replies are read from redis-py's connections directly, not through its pipelines: those say
neither whether a failed command had been sent, nor (on a cluster) refrain from sending again.
A command of unknown outcome is never sent twice by anything here.

With replicas to wait for, a WAIT ends each batch, and its answers are handed out only if it
says that enough of them have all that came before on this connection. Redis promises that for
this connection's own writes, so an answer that shows an earlier commit (replayed, stale, a
load) must itself be a write; each renews the record's TTL, and that is one.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

from hiredis import pack_command
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from .base import StoreFull, StoreUnavailable
from .lanes import Connection
from .scripts import Command

_ELSEWHERE = (ClusterDownError, TryAgainError)
_UNFIT = (ReadOnlyError, BusyLoadingError, MasterDownError, AuthenticationError, ClusterDownError)
"""Refusals of a server that would refuse the next command too: another one may serve by now."""
_FENCED = "NOREPLICAS"
"""How a primary refuses that lost its replicas, perhaps to another primary; redis-py has no class for it."""
_REFUSALS = (ResponseError, BusyLoadingError, AuthenticationError)
"""Error replies; redis-py gives the last two the base class of lost connections."""


def _pack(words: tuple[bytes | str, ...]) -> bytes:
    packed: bytes = pack_command(words)  # type: ignore[arg-type] # its stub: one word only
    return packed


_ASKING = _pack(("ASKING",))


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many replicas must have a batch before its answers count, and how long they may take."""

    count: int
    timeout_ms: int

    def wait(self) -> bytes:
        """The command that asks for it."""
        return _pack(("WAIT", str(self.count), str(self.timeout_ms)))


class Request:
    """A command on its way, the future its sender awaits, and until when (loop time)."""

    __slots__ = ("command", "future", "until")

    def __init__(self, command: Command, future: asyncio.Future[Any], until: float) -> None:
        self.command = command
        self.future = future
        self.until = until

    def answer(self, reply: Any) -> None:
        """Hand the reply out."""
        if not self.future.done():  # its sender may have been cancelled
            self.future.set_result(reply)

    def fail(self, error: StoreUnavailable) -> None:
        """Say that there is no reply."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(slots=True)
class Report:
    """How a batch went, for whoever keeps the queues."""

    failed: bool = False
    """Whether a request got no reply."""
    given_up: str | None = None
    """Why the connection was closed, and the server is not to be trusted with the next batch."""
    elsewhere: bool = False
    """Whether the server said that keys have moved."""
    redirected: list[tuple[Request, AskError]] = field(default_factory=list)
    """Requests that were certainly not carried out, and the node that the server named for each."""


class _Trip:
    """What one round trip has read so far."""

    __slots__ = ("batch", "read", "replies", "unconfirmed", "unloaded")

    def __init__(self, batch: list[Request]) -> None:
        self.batch = batch
        self.read = 0
        self.unloaded: list[Request] = []
        self.unconfirmed: list[Request] = []
        self.replies: list[Any] = []


class Exchange:
    """A batch's way over a taken connection; `run` it once.

    `asking`: the batch was redirected to this node. One that a slot is still moving to takes a
    command on the slot's keys only after ASKING; one that has the slot ignores that.
    """

    __slots__ = ("_asking", "_connection", "_replicas", "_wait", "report")

    def __init__(self, connection: Connection, replicas: Replicas | None, *, asking: bool) -> None:
        self._connection = connection
        self._replicas = replicas
        self._wait = b"" if replicas is None else replicas.wait()
        self._asking = asking
        self.report = Report()

    async def run(self, batch: list[Request]) -> Report:
        """Answer or fail each request, except those it reports as redirected."""
        unloaded = await self._round_trip(batch, [request.command.words for request in batch])
        if unloaded:
            sources = [
                ("EVAL", request.command.script.source, *request.command.words[2:])
                for request in unloaded
                if request.command.script is not None
            ]
            await self._round_trip(unloaded, sources)
        return self.report

    async def _round_trip(self, batch: list[Request], words: list[tuple[bytes | str, ...]]) -> list[Request]:
        """Send and read; the requests whose script Redis does not know, for a rerun."""
        trip = _Trip(batch)
        try:
            packed = [_pack(one) for one in words]
            commands = (_ASKING if self._asking else b"").join([b"", *packed]) + self._wait
            await self._connection.send_packed_command(commands, check_health=False)
            await self._read(trip)
            lack = None if self._replicas is None else await self._confirm(self._replicas)
        except (RedisError, OSError, TimeoutError) as error:
            await self._connection.disconnect(nowait=True)
            self._lost(trip, error)
            return []
        except BaseException:
            await self._connection.disconnect(nowait=True)  # unread replies would be taken for the next batch's
            raise
        if lack is None:
            for request, reply in zip(trip.unconfirmed, trip.replies, strict=True):
                request.answer(reply)
        else:
            self._fail(trip.unconfirmed, lack, unknown=True)
            self.report.given_up = lack
        if self.report.given_up is None:
            return trip.unloaded
        await self._connection.disconnect()
        self._fail(trip.unloaded, self.report.given_up, unknown=False)
        return []

    async def _read(self, trip: _Trip) -> None:
        """Each request's reply: handed out, or kept until it is confirmed, or what its refusal means."""
        read = self._connection.read_response
        for request in trip.batch:
            try:
                if self._asking:
                    with contextlib.suppress(*_REFUSALS):  # then the command is refused as well
                        await read(disconnect_on_error=False)
                reply = await read(disconnect_on_error=False)
            except NoScriptError:
                trip.unloaded.append(request)
            except AskError as where:  # MOVED is one of its kind
                self.report.redirected.append((request, where))
                self.report.elsewhere |= isinstance(where, MovedError)
            except _REFUSALS as refusal:
                self._refused(request, refusal)
            else:
                if self._replicas is None:
                    request.answer(reply)
                else:
                    trip.unconfirmed.append(request)
                    trip.replies.append(reply)
            trip.read += 1

    async def _confirm(self, replicas: Replicas) -> str | None:
        """None once enough replicas have what was written; else why that is not known."""
        try:
            confirmed = await self._connection.read_response(disconnect_on_error=False)
        except _REFUSALS as refusal:  # it is a replica by now, or its WAIT is not allowed
            return f"no word of replicas: {refusal}"
        if confirmed >= replicas.count:
            return None
        return f"confirmed by {confirmed} of the {replicas.count} replicas that METAGAME_REDIS_WAIT_REPLICAS asks for"

    def _refused(self, request: Request, refusal: Exception) -> None:
        reason = f"refused: {refusal}"
        self.report.failed = True
        full = isinstance(refusal, OutOfMemoryError)
        request.fail(StoreFull(reason) if full else StoreUnavailable(reason, unknown=False))
        self.report.elsewhere |= isinstance(refusal, _ELSEWHERE)
        if isinstance(refusal, _UNFIT) or str(refusal).startswith(_FENCED):
            self.report.given_up = reason

    def _lost(self, trip: _Trip, error: Exception) -> None:
        reason = self.report.given_up = f"connection lost: {error}"
        unread = trip.batch[trip.read :]
        if unread and isinstance(error.__context__, ReadOnlyError):  # how redis-py's Sentinel tells a demoted primary
            self._fail(unread[:1], reason, unknown=False)
        self._fail([*trip.unconfirmed, *unread], reason, unknown=True)
        self._fail(trip.unloaded, reason, unknown=False)

    def _fail(self, requests: list[Request], reason: str, *, unknown: bool) -> None:
        self.report.failed |= bool(requests)
        for request in requests:
            request.fail(StoreUnavailable(reason, unknown=unknown))
