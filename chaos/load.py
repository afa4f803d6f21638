"""The load: clients that reset, step and ask at their own pace until told to finish, each with its journal."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from chaos.checker import SHARED
from chaos.drivers import Answer, Driver, Forgotten, Ours, StockHttp, StockHttpKey, StockSocket, Unknown
from chaos.journal import Writer
from chaos.records import Stored
from metagame.errors import MetaGameError

KINDS = ("ours-ws", "ours-http", "stock-ws", "stock-http", "stock-http-key", SHARED)
MIX = ("ours-ws", "ours-http", "stock-ws", "stock-http-key", "stock-http", "ours-ws", "stock-ws", SHARED)
"""Which kinds of clients step, in turns."""
STEPS_PER_STATE = 8
STEPS_PER_EPISODE = 40
"""On average; so often a client asks, or begins an episode."""
ASKED_TIMES = 3
"""How often our client, which has tried for its whole deadline each time, is asked for the state."""
_FILLER = "abc déf ghi 😀 "


class Unread(Exception):
    """A session's record cannot be read at this moment; the text says why."""


Peek = Callable[[str], Awaitable[Stored | None]]
"""A session's record as it lies in Redis, None where there is none; raises Unread."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many sessions of which kinds, and how fast each steps."""

    sessions: int
    kinds: tuple[str, ...]
    steps_per_s: float
    seed: int


class Load:
    """Runs the clients."""

    def __init__(self, base_url: str, folder: Path, plan: Plan, clock: Callable[[], float], peek: Peek) -> None:
        self.finish = asyncio.Event()
        self.peek = peek
        self._base_url = base_url
        self._folder = folder
        self._plan = plan
        self._clock = clock

    async def run(self) -> None:
        """Play every session until `finish` is set and each client has had its last answer."""
        kinds = [self._plan.kinds[number % len(self._plan.kinds)] for number in range(self._plan.sessions)]
        async with asyncio.TaskGroup() as group:
            for number, kind in enumerate(kinds):
                draw = random.Random(f"{self._plan.seed}.{number}")  # noqa: S311 - pace and lengths
                group.create_task(self._shared(number, draw) if kind == SHARED else self._alone(number, kind, draw))

    async def _alone(self, number: int, kind: str, draw: random.Random) -> None:
        """One client; it goes on in a new session where it had to give one up."""
        for part in range(1_000_000):
            with self._journal(f"{number:04}-{kind}{f'-{part}' * bool(part)}") as journal:
                client = Client(self, journal, draw)
                driver = self._driver(kind, client)
                client.begin(driver, kind)
                try:
                    if await client.play():
                        return
                finally:
                    await driver.close()

    async def _shared(self, number: int, draw: random.Random) -> None:
        """Several clients of one session and one episode, in step, so that their commits race."""
        session = uuid4().hex
        with self._journal(f"{number:04}-{SHARED}-a") as first, self._journal(f"{number:04}-{SHARED}-b") as second:
            clients = [Client(self, first, draw, "a"), Client(self, second, draw, "b")]
            drivers = [StockHttp(self._base_url, session) for _ in clients]
            for client, driver in zip(clients, drivers, strict=True):
                client.begin(driver, SHARED)
            try:
                while not await clients[0].reset():  # noqa: ASYNC110 - asked again until it is known
                    await asyncio.sleep(1)
                while not self.finish.is_set():
                    await self.pause(draw)
                    await asyncio.gather(*(client.step() for client in clients))
                for client in clients:
                    client.journal.note("end")
            finally:
                for driver in drivers:
                    await driver.close()

    async def pause(self, draw: random.Random) -> None:
        """The time between two steps, cut short by the end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.finish.wait(), draw.uniform(0.5, 1.5) / self._plan.steps_per_s)

    def _driver(self, kind: str, client: Client) -> Driver:
        match kind:
            case "ours-ws" | "ours-http":
                return Ours(self._base_url, http=kind == "ours-http", lost=client.lost)
            case "stock-ws":
                return StockSocket(self._base_url, uuid4().hex)
            case "stock-http-key":
                return StockHttpKey(self._base_url, uuid4().hex, client.lost)
        return StockHttp(self._base_url, uuid4().hex)

    def _journal(self, name: str) -> Writer:
        return Writer(self._folder / f"{name}.jsonl", self._clock)


class Client:
    """One client of one session, and its journal."""

    def __init__(self, load: Load, journal: Writer, draw: random.Random, tag: str = "") -> None:
        self.journal = journal
        self._tag = tag
        self._load = load
        self._draw = draw
        self._driver: Driver
        self._kind = ""
        self._calls = 0
        self._open_call: int | None = None
        self._in_doubt = False

    def begin(self, driver: Driver, kind: str) -> None:
        """Write the journal's first line."""
        self._driver, self._kind = driver, kind
        self.journal.note("client", session=driver.session, kind=kind)

    def lost(self, why: str) -> None:
        """An attempt of the call under way failed inside the driver."""
        if self._open_call is not None:
            self.journal.note("lost", call=self._open_call, why=why[:300])

    async def play(self) -> bool:
        """Episodes until the load is to finish; False where the session had to be given up."""
        while True:
            if not await self.reset():
                if self._kind == "stock-http":
                    # Nothing stops a reset that is still on its way: it would end a later episode.
                    self.journal.note("left")
                    return False
                await self._stand()
                if self._load.finish.is_set():
                    self.journal.note("end")
                    return True
                continue
            await self._stand()
            while self._draw.random() > 1 / STEPS_PER_EPISODE:
                await self._load.pause(self._draw)
                if self._load.finish.is_set():
                    await self._stand()
                    self.journal.note("end")
                    return True
                if not await self.step() or self._draw.random() < 1 / STEPS_PER_STATE:
                    await self._stand()
            await self._driver.reopen()  # so that a worker that has come back gets sockets again

    async def reset(self) -> bool:
        """Begin an episode of a new name; False where it is unknown whether it began."""
        episode = uuid4().hex
        return await self._call("reset", {"episode": episode}, lambda: self._driver.reset(episode))

    async def step(self) -> bool:
        """One step, its message unlike any other; False where it is unknown whether it counted."""
        filler = _FILLER[: self._draw.randrange(len(_FILLER) + 1)] * (1 if self._draw.random() > 0.02 else 300)
        message = f"{self._driver.session[:12]}.{self._tag}{self._calls + 1} {filler}"
        return await self._call("step", {"message": message}, lambda: self._driver.step(message))

    async def _call(self, verb: str, what: dict[str, str], send: Callable[[], Any]) -> bool:
        self._calls += 1
        call = self._open_call = self._calls
        self.journal.note("send", call=call, verb=verb, **what)
        try:
            answer: Answer = await send()
        except Unknown as unknown:
            self.journal.note("unknown", call=call, why=str(unknown))
        except Forgotten as forgotten:
            self.journal.note("committed", call=call, **({"step": forgotten.step} if verb == "step" else {}))
            return True
        except MetaGameError as error:
            self.journal.note("error", call=call, error=type(error).__name__, why=str(error)[:500])
        else:
            step = {} if answer.step is None else {"step": answer.step}
            said = {"echo": answer.echo, "length": answer.length, "reward": answer.reward, "done": answer.done}
            self.journal.note("answer", call=call, **step, **said)
            return True
        finally:
            self._open_call = None
        self._in_doubt = True
        if self._kind != SHARED:
            await self._driver.recover()
        return False

    async def _stand(self) -> None:
        """Ask where the session stands, and write it down; one that our client has given up for good stays unasked."""
        for _ in range(ASKED_TIMES):
            try:
                episode, step = await self._driver.state()
            except MetaGameError as error:
                self.journal.note("error", error=type(error).__name__, why=str(error)[:500])
                await asyncio.sleep(1)
            else:
                kept = await self._kept(episode, step) if self._in_doubt else {}
                self._in_doubt = False
                self.journal.note("state", episode=episode, step=step, **kept)
                return

    async def _kept(self, episode: str | None, step: int) -> dict[str, str | None]:
        """What the newest answer in Redis echoes, which tells whose the state's number is."""
        try:
            stored = await self._load.peek(self._driver.session)
        except Unread as unread:
            return {"unread": str(unread)[-300:]}
        if stored is None:
            return {"echo": None} if episode is None else {"unread": "there is no record"}
        if (stored.episode, stored.step) != (episode, step):
            return {"unread": f"the record stands at step {stored.step} of episode {stored.episode}"}
        return {"echo": stored.echo}


def kinds_of(names: Sequence[str]) -> tuple[str, ...]:
    """The mix with only these kinds in it; those of the mix keep their share."""
    return tuple(kind for kind in MIX if kind in names)
