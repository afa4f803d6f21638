"""Random verbs against a dict: whatever the order, a store answers as the model does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.store.base import Commit, Draft, Origin, SessionStore, Word
from services.store.connect import open_client
from services.store.memory import MemoryStore
from services.store.redis import RedisStore
from tests.fake_redis import fake_redis
from tests.store.samples import ONE, TWO, entry, generation

MAX_SESSIONS = 2
names = st.sampled_from(["a", "b", "c"])
attachments = st.sampled_from([b"", ONE, TWO])
requests = st.integers(0, 11)
kinds = st.sampled_from(["step", "other"])
counts = st.integers(0, 3)


@dataclass
class Modelled:
    """What the model knows of a session."""

    count: int
    body: bytes
    attachment: bytes
    remembered: list[bytes] = field(default_factory=list)

    def recall(self, request: bytes) -> Word | None:
        for known in self.remembered:
            if known[:8] == request[:8]:
                return Word.REPLAYED if known[:16] == request[:16] else Word.CONFLICT
        return None


class StoreMachine(RuleBasedStateMachine):
    """Verbs on three names in a pool with room for two."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.resources = AsyncExitStack()
        self.store = self.run(self.open())
        self.model: dict[str, Modelled] = {}
        self.drawn = 0

    async def open(self) -> SessionStore:
        return MemoryStore(max_sessions=MAX_SESSIONS, ttl_ms=600_000)

    def run(self, verb: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(verb)

    def teardown(self) -> None:
        self.run(self.store.close())
        self.run(self.resources.aclose())
        self.runner.close()

    @rule(name=names, request=requests, kind=kinds, attachment=attachments)
    def make(self, name: str, request: int, kind: str, attachment: bytes) -> None:
        self.drawn += 1
        remembered = entry(f"r{request}", kind)
        drawn = generation(0, self.drawn)
        body = b"made %d" % self.drawn
        outcome = self.run(self.store.make(name, Draft(Origin.NAMED, drawn, body, remembered, attachment)))
        if name in self.model:
            assert outcome.word is (self.model[name].recall(remembered) or Word.STALE)
            assert outcome.record.body == self.model[name].body
        elif len(self.model) == MAX_SESSIONS:
            assert (outcome.word, outcome.active) == (Word.FULL, MAX_SESSIONS)
        else:
            assert outcome.word is Word.MADE
            self.model[name] = Modelled(self.drawn, body, attachment, [remembered])

    @rule(name=names, request=requests, kind=kinds, attachment=attachments, behind=counts)
    def commit(self, name: str, request: int, kind: str, attachment: bytes, behind: int) -> None:
        self.drawn += 1
        known = self.model.get(name)
        remembered = entry(f"r{request}", kind, self.drawn)
        record = self.run(self.store.load(name))
        expected = record.generation if record is not None and behind == 0 else generation(behind, 10**9)
        body = b"committed %d" % self.drawn
        drawn = generation(1, self.drawn)
        outcome = self.run(self.store.commit(name, Commit(remembered, expected, drawn, body, attachment)))
        if known is None:
            assert outcome.word is Word.GONE
        elif attachment and attachment != known.attachment:
            assert outcome.word is Word.SUPERSEDED
        elif word := known.recall(remembered):
            assert (outcome.word, outcome.record.body) == (word, known.body)
        elif behind:
            assert (outcome.word, outcome.record.body) == (Word.STALE, known.body)
        else:
            assert outcome.word is Word.COMMITTED
            known.body = body
            known.remembered = [remembered, *known.remembered][:8]

    @rule(name=names, attachment=st.sampled_from([ONE, TWO]))
    def attach(self, name: str, attachment: bytes) -> None:
        record = self.run(self.store.attach(name, attachment))
        assert (record is not None) is (name in self.model)
        if name in self.model:
            self.model[name].attachment = attachment

    @rule(name=names, attachment=attachments)
    def detach(self, name: str, attachment: bytes) -> None:
        known = self.model.get(name)
        had_it = known is not None and attachment != b"" and known.attachment == attachment
        assert self.run(self.store.detach(name, attachment)) is had_it
        if known is not None and had_it:
            known.attachment = b""

    @rule(name=names, attachment=attachments)
    def renew(self, name: str, attachment: bytes) -> None:
        known = self.model.get(name)
        word = Word.SUPERSEDED
        if known is None:
            word = Word.GONE
        elif attachment and known.attachment == attachment:
            word = Word.RENEWED
        assert self.run(self.store.renew([(name, attachment)])) == [word]

    @rule(name=names, attachment=attachments)
    def end(self, name: str, attachment: bytes) -> None:
        known = self.model.get(name)
        ends = known is not None and attachment in {b"", known.attachment}
        assert self.run(self.store.end(name, attachment)) is ends
        if ends:
            del self.model[name]

    @rule()
    def sweep(self) -> None:
        assert self.run(self.store.sweep()) == 0
        self.run(self.store.keep())

    @invariant()
    def records_are_the_model_s(self) -> None:
        for name in ("a", "b", "c"):
            record, known = self.run(self.store.inspect(name)), self.model.get(name)
            assert (record is None) is (known is None)
            if record is not None and known is not None:
                assert (record.body, record.attachment) == (known.body, known.attachment)
                assert record.remembered == b"".join(known.remembered)
                assert record.attached is (known.attachment != b"")
        assert {name for name, _ in self.run(self.store.page(None, 5)).sessions} == set(self.model)


class FakeRedisMachine(StoreMachine):
    """The same over the Redis store."""

    async def open(self) -> SessionStore:
        url = await self.resources.enter_async_context(fake_redis())
        return RedisStore(open_client(url, timeout_s=9), max_sessions=MAX_SESSIONS, ttl_ms=600_000)


TestMemory = StoreMachine.TestCase
TestMemory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestFakeRedis = FakeRedisMachine.TestCase
TestFakeRedis.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
