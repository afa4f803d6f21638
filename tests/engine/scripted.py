"""A store that does what a test's script says, around a real one."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from services.store.base import (
    Commit,
    Draft,
    Node,
    Outcome,
    Page,
    Record,
    Said,
    SessionStore,
    Spoken,
    StoreUnavailable,
    UnreadableRecord,
    Word,
)

T = TypeVar("T")
Event = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Fault:
    """The store fails once: before the verb is carried out, or after it, its answer lost."""

    unknown: bool
    carried_out: bool = False

    def error(self) -> StoreUnavailable:
        return StoreUnavailable("scripted", unknown=self.unknown)


REFUSED = Fault(unknown=False)
LOST_BEFORE = Fault(unknown=True)
LOST_AFTER = Fault(unknown=True, carried_out=True)


class ScriptedStore:
    """A `SessionStore`. What happens to a verb's next calls stands in `script[verb]`, one item a call.

    An item is a Fault, an exception, or an event to await before the call is carried out. A verb
    in `always` meets that item at each call whose own script is used up.
    """

    def __init__(self, inner: SessionStore) -> None:
        self.inner = inner
        self.script: dict[str, deque[Fault | Exception | Event | None]] = defaultdict(deque)
        self.always: dict[str, Fault | Exception | Event] = {}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.soon: set[asyncio.Future[None]] = set()

    def commits(self) -> list[Commit]:
        """The commits asked for, resends too."""
        return [args[1] for verb, args in self.calls if verb == "commit"]

    def drafts(self) -> list[Draft]:
        """The sessions asked to be made, resends too."""
        return [args[1] for verb, args in self.calls if verb == "make"]

    def verbs(self) -> list[str]:
        """The verbs called, in order."""
        return [verb for verb, _ in self.calls]

    async def load(self, session_id: str) -> Record | None:
        return await self._play("load", self.inner.load, session_id)

    async def inspect(self, session_id: str) -> Record | None:
        return await self._play("inspect", self.inner.inspect, session_id)

    async def make(self, session_id: str, draft: Draft) -> Outcome:
        return await self._play("make", self.inner.make, session_id, draft)

    async def commit(self, session_id: str, commit: Commit) -> Outcome:
        return await self._play("commit", self.inner.commit, session_id, commit)

    def commit_soon(self, session_id: str, commit: Commit, told: Callable[[Said], None]) -> None:
        async def carry_out() -> None:
            said: Said
            try:
                said = await self.commit(session_id, commit)
            except (StoreUnavailable, UnreadableRecord) as error:
                said = error
            told(said)

        self.soon.add(asyncio.ensure_future(carry_out()))

    async def attach(self, session_id: str, attachment: bytes, *, unless_owned: bool = False) -> Record | None:
        attach = partial(self.inner.attach, unless_owned=unless_owned)
        return await self._play("attach", attach, session_id, attachment)

    async def detach(self, session_id: str, attachment: bytes) -> bool:
        return await self._play("detach", self.inner.detach, session_id, attachment)

    async def renew(self, leases: list[tuple[str, bytes]]) -> list[Word | None]:
        return await self._play("renew", self.inner.renew, leases)

    async def end(self, session_id: str, attachment: bytes = b"") -> bool:
        return await self._play("end", self.inner.end, session_id, attachment)

    async def page(self, cursor: str | None, limit: int) -> Page:
        return await self._play("page", self.inner.page, cursor, limit)

    async def count(self) -> int:
        return await self._play("count", self.inner.count)

    async def sweep(self) -> int:
        return await self._play("sweep", self.inner.sweep)

    async def keep(self) -> None:
        return await self._play("keep", self.inner.keep)

    async def ping(self) -> None:
        return await self._play("ping", self.inner.ping)

    async def announce(self, worker: str, word: bytes) -> None:
        return await self._play("announce", self.inner.announce, worker, word)

    async def depart(self, worker: str) -> None:
        return await self._play("depart", self.inner.depart, worker)

    async def roll(self) -> list[Spoken]:
        return await self._play("roll", self.inner.roll)

    async def nodes(self) -> list[Node]:
        return await self._play("nodes", self.inner.nodes)

    async def close(self) -> None:
        await self.inner.close()

    async def _play(self, verb: str, carry_out: Callable[..., Awaitable[T]], *args: object) -> T:
        self.calls.append((verb, args))
        item = self.script[verb].popleft() if self.script[verb] else self.always.get(verb)
        if isinstance(item, Exception):
            raise item
        if isinstance(item, Fault):
            if item.carried_out:
                await carry_out(*args)
            raise item.error()
        if item is not None:
            await item()
        return await carry_out(*args)


class Gate:
    """An event for a script: the call waits at the gate until the test opens it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._open = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self._open.wait()

    def open(self) -> None:
        self._open.set()
