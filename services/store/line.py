"""One connection to Redis, kept open: batches go out one behind the other, replies come back in their order.

Owned here: what each request's sender is told, and above all whether a failed one may have been
carried out. Not here: queues (batch.py), and how a connection comes about (lanes.py).

A protocol of our own under redis-py's connection, because its reading costs a time-out, two coroutines
and a wrapper a reply, and its pipelines say neither whether a failed command had been sent, nor (on a
cluster) refrain from sending again. A command of unknown outcome is never sent twice by anything here.

With replicas to wait for, a WAIT ends each batch, and its answers are handed out only if it
says that enough of them have all that came before on this connection. Redis promises that for
this connection's own writes, so an answer that shows an earlier commit (replayed, stale, a
load) must itself be a write; each renews the record's TTL, and that is one.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

from hiredis import ProtocolError, Reader

from ..meter import Meter
from ..meter.layout import BATCH_SIZES, BATCH_SUM, BATCHES, ROUND_TRIPS
from .request import Refusal, Replicas, Report, Request, pack

_ASKING = pack(("ASKING",))
_BATCHES, _ROUND_TRIPS = BATCHES.first, ROUND_TRIPS.first


class _Trip:
    """A batch on its way, and what has been read of its replies."""

    __slots__ = ("asked", "batch", "has_sources", "held", "read", "report", "sent_ns", "unloaded", "until")

    def __init__(self, batch: list[Request], *, has_sources: bool) -> None:
        self.batch = batch
        self.has_sources = has_sources
        """Whether the scripts' sources went with it."""
        self.until = batch[0].until
        self.sent_ns = monotonic_ns()
        self.asked = False
        """Whether the reply to the next request's ASKING has been read."""
        self.read = 0
        self.held: list[tuple[Request, Any]] = []
        """Answers that no replica has confirmed yet."""
        self.unloaded: list[Request] = []
        """Requests whose script the server does not know."""
        self.report = Report()


class Line(asyncio.Protocol):
    """A server's connection; `open` it over a transport, then `send` batches.

    `settled` is called with the report of each batch, at its end; `ended` once, when the connection is of no
    use any more and nothing is in flight; `resumed` when the transport takes more again. No method but these is
    called from elsewhere, no request is left without a word, and whoever breaks off is no harm to the others.

    `asking`: the batches were redirected to this server. One that a slot is still moving to takes a
    command on the slot's keys only after ASKING; one that has the slot ignores that.
    """

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        patience_s: float,
        replicas: Replicas | None,
        meter: Meter,
        asking: bool,
        settled: Callable[[Line, Report], None],
        resumed: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._patience_s = patience_s
        """How long the server may be silent while something is in flight."""
        self._meter = meter
        self._replicas = replicas
        self._wait = b"" if replicas is None else replicas.wait()
        self._asking = asking
        self._settled = settled
        self._resumed = resumed
        self._ended = ended
        self._reader = Reader(replyError=Refusal)
        self._trips: deque[_Trip] = deque()
        self._paused = False
        self._given_up: str | None = "not open yet"
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        """When the timer goes off; not after the first moment that something may be overdue."""

    def open(self, transport: asyncio.Transport) -> None:
        """Take the transport over; the protocol that it had still hears of its end."""
        self._transport = transport
        self._former = transport.get_protocol()
        transport.set_protocol(self)
        self._given_up = None

    @property
    def usable(self) -> bool:
        """Whether a batch may still be sent, now or later."""
        return self._given_up is None and not self._transport.is_closing()

    @property
    def in_flight(self) -> int:
        """How many batches are on their way."""
        return len(self._trips)

    @property
    def writable(self) -> bool:
        """Whether the transport takes more."""
        return not self._paused

    def send(self, batch: list[Request], now: float) -> None:
        """Send a batch, which is not empty and whose first request is its oldest."""
        if not self._trips:
            self._heard_at = now
        self._launch(_Trip(batch, has_sources=False), [request.packed for request in batch])

    def close(self) -> None:
        """Send nothing more; close once nothing is in flight."""
        self._give_up("the connection was closed")
        if not self._trips:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Hand replies out."""
        self._heard_at = self._loop.time()
        trips = self._trips
        try:
            self._reader.feed(data)
            while trips and self._read(trips[0]):
                self._finish(trips.popleft())
            if self._reader.has_data() and not trips:
                self._break("a reply to nothing")
        except ProtocolError as error:
            self._break(str(error))

    def eof_received(self) -> None:
        """Nothing more comes: the transport closes itself after this."""
        self._break("closed by the server")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those whose replies do not come any more."""
        self._break(str(exc) if exc else "closed")
        self._former.connection_lost(exc)
        self._ended()

    def pause_writing(self) -> None:
        """Wait with the next batch."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False
        self._resumed()

    def _launch(self, trip: _Trip, packed: list[bytes]) -> None:
        self._trips.append(trip)
        cells, count = self._meter.cells, len(packed)
        cells[_BATCHES + bisect_left(BATCH_SIZES, count)] += 1
        cells[_BATCHES + BATCH_SUM] += count
        commands = (_ASKING + _ASKING.join(packed)) if self._asking else b"".join(packed)
        self._transport.write(commands + self._wait if self._wait else commands)
        due = min(trip.until, self._heard_at + self._patience_s)
        if self._timer is None or due < self._due:
            self._arm(due)

    def _read(self, trip: _Trip) -> bool:
        """Each request's reply: handed out, or kept until it is confirmed, or what its refusal means."""
        gets, batch, asking, holds = self._reader.gets, trip.batch, self._asking, self._replicas is not None
        end = len(trip.batch)
        while trip.read < end:
            reply = gets()
            if reply is False:  # not there yet
                return False
            if asking:
                trip.asked = not trip.asked
                if trip.asked:  # whatever it says: if it is refused, so is the command
                    continue
            request = batch[trip.read]
            trip.read += 1
            if type(reply) is Refusal:
                self._refused(trip, request, reply)
            elif holds:
                trip.held.append((request, reply))
            elif not request.receiver.done():  # its sender may have been cancelled
                request.receiver.set_result(reply)
        return self._replicas is None or self._confirm(trip, self._replicas)

    def _refused(self, trip: _Trip, request: Request, refusal: Refusal) -> None:
        if refusal.word == "NOSCRIPT" and not trip.has_sources:
            trip.unloaded.append(request)
        else:
            trip.report.refused(request, refusal)

    def _confirm(self, trip: _Trip, replicas: Replicas) -> bool:
        """Hand out what was kept once enough replicas have it, or say why that is not known; whether WAIT is over."""
        confirmed = self._reader.gets()
        if confirmed is False:
            return False
        if type(confirmed) is Refusal:  # it is a replica by now, or its WAIT is not allowed
            lack = f"no word of replicas: {confirmed}"
        elif confirmed < replicas.count:
            asked = f"the {replicas.count} replicas that METAGAME_REDIS_WAIT_REPLICAS asks for"
            lack = f"confirmed by {confirmed} of {asked}"
        else:
            for request, reply in trip.held:
                request.answer(reply)
            trip.held = []
            return True
        trip.report.fail([request for request, _ in trip.held], lack, unknown=True)
        trip.report.given_up = lack
        trip.held = []
        return True

    def _finish(self, trip: _Trip) -> None:
        """Send again what the server does not know, and report."""
        self._meter.took(_ROUND_TRIPS, trip.sent_ns)
        if trip.report.given_up is not None:
            self._give_up(trip.report.given_up)
        if trip.unloaded and self.usable:
            again = _Trip(trip.unloaded, has_sources=True)
            self._launch(again, [request.with_source() for request in trip.unloaded])
        else:
            trip.report.fail(trip.unloaded, self._given_up or "connection lost", unknown=False)
        if self._given_up is not None and not self._trips:
            self._transport.close()
        self._settled(self, trip.report)

    def _give_up(self, reason: str) -> None:
        """Send nothing more; what is in flight comes home."""
        if self._given_up is None:
            self._given_up = reason

    def _break(self, reason: str) -> None:
        """Fail what is in flight: it may have been carried out, but for what the server refused."""
        reason = f"connection lost: {reason}"
        self._give_up(reason)
        self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._trips:
            return
        report = Report(given_up=reason)
        for trip in self._trips:
            report.fail([request for request, _ in trip.held] + trip.batch[trip.read :], reason, unknown=True)
            report.fail(trip.unloaded, reason, unknown=False)
            report.redirected += trip.report.redirected
            report.elsewhere |= trip.report.elsewhere
            report.failed |= trip.report.failed
        self._trips.clear()
        self._settled(self, report)

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        """Break if an answer is overdue; one timer for all batches, set anew only here and for an earlier one."""
        self._timer = None
        if not self._trips:
            return
        due = min(self._heard_at + self._patience_s, *[trip.until for trip in self._trips])
        if due <= self._loop.time():
            self._break("no answer in time")
        else:
            self._arm(due)
