"""What becomes of sessions and commits is counted."""

from __future__ import annotations

import asyncio

import pytest

from metagame.errors import MetaGameError, RequestConflict, SessionLost, SessionTakenOver, Unavailable
from metagame.games.echo import EchoGame
from services.engine import Engine
from services.meter import Meter
from services.meter.layout import ATTACHED, COMMITS, ENDED, MADE, REDIS_AWAY, REDIS_FULL, REFUSED, RESUMED, TAKEN_OVER
from services.store.base import StoreFull
from services.store.memory import MemoryStore
from services.upkeep import Upkeep
from tests.engine.asking import Socket, reset, step
from tests.engine.scripted import LOST_AFTER, ScriptedStore
from tests.engine.scripted import REFUSED as NOT_DONE

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> list[float]:
    """The store's clock, to be put forward."""
    return [0.0]


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def store(clock: list[float], meter: Meter) -> ScriptedStore:
    return ScriptedStore(MemoryStore(max_sessions=3, ttl_ms=60_000, clock=lambda: clock[0], meter=meter))


@pytest.fixture
def engine(store: ScriptedStore, meter: Meter) -> Engine:
    return Engine(EchoGame(), store, max_sessions=3, timeout_s=0.1, meter=meter)


def commits(meter: Meter, command: str = "step") -> dict[str, int]:
    """By outcome, those that there were."""
    return {outcome: n for (_, outcome), at in COMMITS.cells(command=command) if (n := meter.cells[at])}


def attached(meter: Meter) -> tuple[int, int]:
    return ATTACHED.total(meter.cells, kind="named"), ATTACHED.total(meter.cells, kind="anonymous")


@pytest.mark.parametrize("begins", [False, True])
async def test_steps_and_resets_that_are_committed(
    engine: Engine, meter: Meter, *, begins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Socket, "begins", begins)
    socket = await Socket(engine).open()
    await socket.reset()
    for _ in range(5):
        await socket.step()
    await engine.step("s", step())
    assert commits(meter) == {"committed": 6}
    assert commits(meter, "reset") == {"committed": 1}


async def test_a_step_sent_again_is_replayed_and_another_under_its_id_a_conflict(engine: Engine, meter: Meter) -> None:
    socket = await Socket(engine).open()
    await socket.reset()
    await socket.step(step("one", "r"))
    await socket.step(step("one", "r"))
    with pytest.raises(RequestConflict):
        await socket.step(step("two", "r"))
    assert commits(meter) == {"committed": 1, "replayed": 1, "conflict": 1}


async def test_a_step_on_an_old_snapshot_is_stale_and_then_committed(engine: Engine, meter: Meter) -> None:
    socket = await Socket(engine).open()
    await socket.reset()
    await engine.step("s", step())
    await socket.step()
    assert commits(meter) == {"committed": 2, "stale": 1}


async def test_a_step_on_a_session_taken_over_is_superseded(engine: Engine, meter: Meter) -> None:
    older = await Socket(engine).open()
    await older.reset()
    await Socket(engine).open()
    with pytest.raises(SessionTakenOver):
        await older.step()
    assert commits(meter) == {"superseded": 1}
    assert (RESUMED.total(meter.cells), TAKEN_OVER.total(meter.cells)) == (1, 1)


async def test_a_step_on_a_session_that_ended_finds_it_gone(engine: Engine, meter: Meter) -> None:
    socket = await Socket(engine).open()
    await socket.reset()
    await engine.end("s")
    with pytest.raises(SessionLost):
        await socket.step()
    assert commits(meter) == {"gone": 1}
    assert attached(meter) == (0, 0)


@pytest.mark.parametrize(("fault", "outcome"), [(LOST_AFTER, "unknown"), (NOT_DONE, "refused")])
async def test_a_step_that_fails_says_whether_it_may_have_been_taken(
    engine: Engine, store: ScriptedStore, meter: Meter, fault: object, outcome: str
) -> None:
    await engine.reset("s", reset())
    store.always["commit"] = fault  # type: ignore[assignment]
    with pytest.raises(Unavailable):
        await engine.step("s", step())
    assert commits(meter) == {outcome: 1}


async def test_sessions_are_counted_by_who_made_them(engine: Engine, meter: Meter) -> None:
    await Socket(engine).open(None)
    await engine.reset("s", reset())
    await engine.reset("s", reset("again"))
    await engine.make("m")
    await engine.make("m")
    await engine.end("m")
    await engine.make("g", begun=True)
    made = {origin: MADE.total(meter.cells, origin=origin) for (origin,), _ in MADE.cells()}
    assert made == {"anonymous": 1, "named": 1, "made": 1, "agent": 1}
    with pytest.raises(MetaGameError):
        await engine.reset("t", reset())
    assert REFUSED.total(meter.cells, reason="capacity") == REFUSED.total(meter.cells) == 1


async def test_sessions_are_counted_by_how_they_ended(engine: Engine, meter: Meter, clock: list[float]) -> None:
    await (await Socket(engine).open(None)).leave(closed=False)
    await (await Socket(engine).open(None)).leave(closed=True)
    named = await Socket(engine).open()
    await named.reset()
    await named.leave(closed=True)
    await engine.make("m")
    await engine.end("m")
    await engine.end("m")
    await engine.make("e")
    clock[0] += 61
    with pytest.raises(SessionLost):
        await engine.inspect("e")
    await engine.make("f")
    clock[0] += 61
    await engine.store.sweep()
    ended = {reason: ENDED.total(meter.cells, reason=reason) for (reason,), _ in ENDED.cells()}
    assert ended == {"asked": 1, "closed": 2, "left": 1, "expired": 2}
    assert MADE.total(meter.cells) == sum(ended.values())


async def test_attached_sessions_are_those_with_a_socket_here(engine: Engine, meter: Meter) -> None:
    anonymous = await Socket(engine).open(None)
    named = await Socket(engine).open()
    assert attached(meter) == (0, 1)
    await named.reset()
    assert attached(meter) == (1, 1)
    await anonymous.leave(closed=False)
    assert attached(meter) == (1, 0)
    await named.leave(closed=False)
    assert attached(meter) == (0, 0)
    await (await Socket(engine).open()).leave(closed=False)
    assert attached(meter) == (0, 0)
    assert (RESUMED.total(meter.cells), TAKEN_OVER.total(meter.cells)) == (1, 0)


async def test_what_is_refused_while_the_store_is_away_says_so(
    engine: Engine, store: ScriptedStore, meter: Meter
) -> None:
    store.always["load"] = NOT_DONE
    with pytest.raises(Unavailable):
        await Socket(engine).open()
    assert REFUSED.total(meter.cells, reason="unavailable") == 1


async def test_how_the_store_is_found_is_a_gauge(engine: Engine, store: ScriptedStore, meter: Meter) -> None:
    upkeep = Upkeep(engine, session_ttl_s=60)
    for found, gauges in ((NOT_DONE, (1, 0)), (StoreFull("refused: OOM"), (0, 1)), (None, (0, 0))):
        if found is None:
            del store.always["ping"]
        else:
            store.always["ping"] = found
        await upkeep._watch()
        assert (REDIS_AWAY.total(meter.cells), REDIS_FULL.total(meter.cells)) == gauges


async def test_many_sockets_at_once_leave_no_trace_in_the_gauge(meter: Meter) -> None:
    engine = Engine(EchoGame(), MemoryStore(max_sessions=50, ttl_ms=9999), max_sessions=50, timeout_s=1, meter=meter)
    sockets = await asyncio.gather(*[Socket(engine).open(None) for _ in range(50)])
    assert attached(meter) == (0, 50)
    await asyncio.gather(*[socket.leave(closed=False) for socket in sockets])
    assert attached(meter) == (0, 0)
