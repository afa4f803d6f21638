"""What only the memory store has: a clock of its own, and a process that can sleep."""

from __future__ import annotations

import pytest

from services.store.base import LEASE_MS, Origin, Outcome, Word
from services.store.memory import MemoryStore
from tests.store.samples import ONE, draft, step

pytestmark = pytest.mark.anyio

LEASE_S = LEASE_MS / 1000


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_session_lives_its_ttl_to_the_millisecond() -> None:
    clock = Clock()
    store = MemoryStore(max_sessions=1, ttl_ms=1000, clock=clock)
    await store.make("s", draft())
    clock.now_s += 0.999
    assert await store.inspect("s") is not None
    assert (await store.make("t", draft())).word is Word.FULL
    clock.now_s += 0.001
    assert await store.inspect("s") is None
    assert await store.commit("s", step(1)) == Outcome(Word.GONE)
    assert (await store.make("t", draft())).word is Word.MADE


async def test_expired_sessions_are_swept_and_counted() -> None:
    clock = Clock()
    store = MemoryStore(max_sessions=5, ttl_ms=1000, clock=clock)
    for name in "abc":
        await store.make(name, draft())
    clock.now_s += 1
    await store.make("d", draft())
    assert await store.sweep() == 3
    assert await store.sweep() == 0


async def test_a_process_that_slept_gives_its_sockets_a_lease_to_renew() -> None:
    clock = Clock()
    store = MemoryStore(max_sessions=5, ttl_ms=10**9, clock=clock)
    await store.make("dead", draft(origin=Origin.ANONYMOUS, attachment=ONE))
    await store.make("alive", draft(origin=Origin.ANONYMOUS, attachment=ONE))
    clock.now_s += 1000
    assert await store.sweep() == 0
    for _ in range(4):
        clock.now_s += LEASE_S / 4
        assert await store.load("dead") is not None
        assert await store.renew([("alive", ONE)]) == [Word.RENEWED]
        swept = await store.sweep()
    assert swept == 1
    assert await store.load("dead") is None
    assert await store.load("alive") is not None


async def test_a_full_pool_is_looked_through_once_until_something_may_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    store = MemoryStore(max_sessions=2, ttl_ms=1000, clock=clock)
    sweeps = 0
    sweep = store.sweep

    async def counted() -> int:
        nonlocal sweeps
        sweeps += 1
        return await sweep()

    monkeypatch.setattr(store, "sweep", counted)
    await store.make("first", draft())
    clock.now_s += 0.5
    await store.make("second", draft())
    for _ in range(100):
        assert (await store.make("third", draft())).word is Word.FULL
    assert sweeps == 1
    clock.now_s += 0.5
    assert (await store.make("third", draft())).word is Word.MADE
    assert sweeps == 2
