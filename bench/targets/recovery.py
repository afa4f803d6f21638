"""J: a worker with a thousand attached sockets is killed (SIGKILL), and all its sessions step again at another worker.

Each client does what `metagame.client` does: once its socket is lost it tries the other worker after a random pause
that grows, and sends the step that it was about to make, or had sent, with the same request id. A session's time counts
from just before the kill until a step is acknowledged by the worker that is left.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from dataclasses import dataclass, field
from uuid import uuid4

import uvloop

from bench.contestants import everysec_redis
from bench.targets import Check, Options, Result, Table, Target, median
from metagame.cli import processes
from metagame.load.connections import Connection, WebSocket
from metagame.load.latencies import percentile
from metagame.load.opening import NotOpened, answer, connect
from metagame.load.spec import Sockets

LIMIT_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
"""As in `metagame.client`."""
OPENED_AT_ONCE = 64
_STEP = re.compile(rb'"step"\s*:\s*(\d+)')

_random = random.Random()  # noqa: S311 - spreads load


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of it; a test does with less."""

    sessions: int = 1000
    think_s: float = 1.0
    """Between an answer and the next step, on average."""
    steps_before: int = 3
    """Of a session before the kill, on average."""
    steps_after: int = 3
    deadline_s: float = 60.0
    """How long a round may take."""


@dataclass(slots=True)
class Round:
    """What one kill led to."""

    scale: Scale
    killed_at: float = 0.0
    steps: int = 0
    """Acknowledged, of all sessions."""
    under_way: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the sessions have stepped for a while."""
    resumed_s: list[float] = field(default_factory=list)
    """Of each session."""
    errors: list[str] = field(default_factory=list)
    """Steps that were answered otherwise than by the next number, and sessions that did not come back."""

    def acknowledged(self) -> None:
        """Count a step."""
        self.steps += 1
        if self.steps == self.scale.steps_before * self.scale.sessions:
            self.under_way.set()


class Client:
    """One session, stepped over one socket after another."""

    def __init__(self, number: int, sockets: Sockets, found: Round) -> None:
        self._number = number
        self._sockets = sockets
        self._found = found
        self._turn = 0
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        self._steps = 0

    async def begin(self) -> None:
        """Attach to the first worker, and start an episode."""
        connection = await self._attach()
        ready = await self._ask(connection, b'{"type":"reset","data":{}}')
        if b'"observation"' not in ready:
            raise NotOpened("reset: " + ready[:250].decode(errors="replace"))

    async def play(self) -> None:
        """Step at random moments until the worker is killed; then at once, and a few times more."""
        while self._turn == 0:
            await self._think()
            await self._step()
        self._found.resumed_s.append(time.perf_counter() - self._found.killed_at)
        for _ in range(self._found.scale.steps_after):
            await self._think()
            await self._step()

    def drop(self) -> None:
        """End the socket."""
        if self._connection is not None:
            self._connection.drop()

    async def _think(self) -> None:
        """Wait as an agent would between two steps, unless the socket is lost meanwhile."""
        try:
            await asyncio.wait_for(self._lost.wait(), _random.expovariate(1 / self._found.scale.think_s))
        except TimeoutError:
            return

    async def _step(self) -> None:
        """The next step, sent until it is acknowledged."""
        request = f'{{"type":"step","data":{{"message":"{self._sockets.message}"}},"request_id":"{uuid4().hex}"}}'
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                if self._connection is None or self._connection.lost is not None:
                    await self._attach()
                assert self._connection is not None  # noqa: S101 - attached just now
                stepped = await self._ask(self._connection, request.encode())
                break
            except (NotOpened, OSError):
                self._turn = 1
                await asyncio.sleep(_random.uniform(0, pause_s))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        found = _STEP.search(stepped)
        self._steps += 1
        self._found.acknowledged()
        if found is None or int(found[1]) != self._steps:
            self._found.errors.append(f"step {self._steps}: " + stepped[:250].decode(errors="replace"))

    async def _attach(self) -> Connection:
        host, port = self._sockets.addresses[self._turn]
        connection = await connect(self._sockets, host, port)
        assert isinstance(connection, WebSocket)  # noqa: S101 - that is the surface asked for
        connection.upgrade(self._sockets.path(self._number, "ws"))
        await answer(connection)
        self._lost.clear()
        connection.on_lost = self._note_loss
        self._connection = connection
        return connection

    async def _ask(self, connection: Connection, frame: bytes) -> bytes:
        connection.transport.write(WebSocket.encode(frame))
        answered = await answer(connection)
        connection.on_lost = self._note_loss
        if connection.lost is not None:
            self._note_loss(connection.lost)
        return answered

    def _note_loss(self, _: str) -> None:
        self._turn = 1
        self._lost.set()


def measure(options: Options, scale: Scale = Scale()) -> Result:
    """Kill a worker a round, each with a Redis and two workers of its own."""
    rounds: list[Round] = []
    for number in range(options.rounds):
        folder = options.folder / f"round-{number}"
        folder.mkdir()
        with (
            everysec_redis(folder) as redis,
            processes.worker("first", folder, redis.url) as first,
            processes.worker("second", folder, redis.url) as second,
        ):
            rounds.append(uvloop.run(play_round(first, second, scale)))
        options.say(f"round {number + 1} of {options.rounds}")
    p99_s = [percentile(one.resumed_s or [scale.deadline_s], 99) for one in rounds]
    errors = [error for one in rounds for error in one.errors]
    return Result(
        checks=(
            median("kill to a session's next acknowledged step, p99", p99_s, limit=LIMIT_S, unit="s"),
            Check("steps lost, repeated or refused, in all rounds", len(errors), 0),
        ),
        table=Table(
            ("p50 s", "p99 s", "worst s"),
            tuple(
                (f"round {number}", tuple(f"{percentile(one.resumed_s, at):.2f}" for at in (50, 99, 100)))
                for number, one in enumerate(rounds, 1)
            ),
        ),
        notes=(f"{scale.sessions:,} sessions, each stepping every {scale.think_s:g} s on average.", *errors[:3]),
        figures={"resumed_s": [sorted(one.resumed_s) for one in rounds], "errors": errors},
    )


async def play_round(first: processes.Child, second: processes.Child, scale: Scale) -> Round:
    """Attach, step, kill, and see every session come back."""
    found = Round(scale)
    addresses = tuple(("127.0.0.1", worker.port) for worker in (first, second))
    sockets = Sockets(addresses=addresses, count=scale.sessions, fleet=uuid4().hex[:16])
    clients = [Client(number, sockets, found) for number in range(scale.sessions)]
    try:
        async with asyncio.timeout(scale.deadline_s), asyncio.TaskGroup() as group:
            for start in range(0, scale.sessions, OPENED_AT_ONCE):
                await asyncio.gather(*[client.begin() for client in clients[start : start + OPENED_AT_ONCE]])
            for client in clients:
                group.create_task(client.play())
            await found.under_way.wait()
            found.killed_at = time.perf_counter()
            first.kill()
    except TimeoutError:
        found.errors += ["a session that did not come back"] * (scale.sessions - len(found.resumed_s))
    finally:
        for client in clients:
            client.drop()
    return found


TARGETS = (Target("J", "A worker with 1,000 sockets killed", measure, seconds=100),)
