import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from metagame.errors import SessionLost, SessionTakenOver
from metagame.games.echo import EchoGame
from services.engine import Engine
from services.store.base import StoreFull, UnreadableRecord
from services.store.memory import MemoryStore
from services.upkeep import AWAY, BACK, FULL, Upkeep
from tests.engine.asking import Socket, age, reset, step, step_number
from tests.engine.scripted import REFUSED, Fault, ScriptedStore

pytestmark = pytest.mark.anyio

TTL_S = 0.6
FAR_TTL_S = 3600.0
LIMIT_S = 10.0


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def kept_up(engine: Engine, session_ttl_s: float = TTL_S) -> AsyncIterator[Upkeep]:
    upkeep = Upkeep(engine, session_ttl_s=session_ttl_s)
    upkeep.start()
    try:
        yield upkeep
    finally:
        await upkeep.stop()


@pytest.fixture
def short() -> ScriptedStore:
    """A store whose sessions end soon."""
    return ScriptedStore(MemoryStore(max_sessions=10, ttl_ms=round(TTL_S * 1000)))


@pytest.fixture
def worker(short: ScriptedStore) -> Engine:
    return Engine(EchoGame(), short, max_sessions=10, timeout_s=1.0)


def renewals(store: ScriptedStore) -> int:
    return store.verbs().count("renew")


async def test_a_session_with_an_open_socket_outlives_its_ttl_and_a_detached_one_does_not(
    worker: Engine, short: ScriptedStore
) -> None:
    loop = asyncio.get_running_loop()
    async with kept_up(worker):
        socket = await Socket(worker).open("open")
        await socket.reset()
        dropped = await Socket(worker).open("dropped")
        await dropped.reset()
        await dropped.leave(closed=False)
        opened = loop.time()
        await until(lambda: loop.time() - opened > 3 * TTL_S)
        assert step_number(await socket.step()) == 1
        with pytest.raises(SessionLost):
            await worker.inspect("dropped")
        assert socket.told == []


async def test_requests_without_a_socket_keep_a_session_as_well(worker: Engine) -> None:
    await worker.reset("s", reset())
    for number in range(1, 7):
        await asyncio.sleep(TTL_S / 3)
        assert step_number(await worker.step("s", step())) == number


async def test_only_what_is_due_is_renewed(worker: Engine, short: ScriptedStore) -> None:
    upkeep = Upkeep(worker, session_ttl_s=FAR_TTL_S)
    first = await Socket(worker).open(None)
    age(worker)
    await upkeep._renew()
    second = await Socket(worker).open(None)
    second.attachment.leased_at = -1e9
    unmade = await Socket(worker).open("unmade")
    await upkeep._renew()
    await upkeep._renew()
    batches = [[name for name, _ in args[0]] for verb, args in short.calls if verb == "renew"]
    assert batches == [[first.session_id], [second.session_id]]
    assert not unmade.attachment.attached


async def test_a_step_renews_so_that_the_upkeep_need_not(worker: Engine, short: ScriptedStore) -> None:
    upkeep = Upkeep(worker, session_ttl_s=FAR_TTL_S)
    quiet = await Socket(worker).open("quiet")
    busy = await Socket(worker).open("busy")
    for socket in (quiet, busy):
        await socket.reset()
    age(worker)
    await busy.step()
    await upkeep._renew()
    assert [[name for name, _ in args[0]] for verb, args in short.calls if verb == "renew"] == [["quiet"]]


async def test_a_socket_that_rests_is_renewed_when_its_last_step_gets_old(worker: Engine, short: ScriptedStore) -> None:
    async with kept_up(worker):
        socket = await Socket(worker).open("s")
        await socket.reset()
        for _ in range(6):
            await asyncio.sleep(TTL_S / 20)
            await socket.step()
        stepped = renewals(short)
        await until(lambda: renewals(short) > stepped)
        assert step_number(await socket.step()) == 7


async def test_many_sockets_are_renewed_in_batches() -> None:
    store = ScriptedStore(MemoryStore(max_sessions=600, ttl_ms=60_000))
    engine = Engine(EchoGame(), store, max_sessions=600, timeout_s=1.0)
    for _ in range(600):
        await Socket(engine).open(None)
    age(engine)
    await Upkeep(engine, session_ttl_s=FAR_TTL_S)._renew()
    assert [len(args[0]) for verb, args in store.calls if verb == "renew"] == [256, 256, 88]


async def test_an_idle_socket_is_told_that_it_was_taken_over(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())
    older = await Socket(engine).open()
    async with kept_up(engine):
        newer = await Socket(other).open()
        await until(lambda: older.told)
        assert [type(error) for error in older.told] == [SessionTakenOver]
    await newer.step()


async def test_a_socket_that_left_is_told_nothing(engine: Engine, other: Engine, store: ScriptedStore) -> None:
    await engine.reset("s", reset())
    older = await Socket(engine).open()
    await Socket(other).open()
    store.script["renew"].append(lambda: older.leave(closed=False))
    age(engine)
    await Upkeep(engine, session_ttl_s=FAR_TTL_S)._renew()
    assert store.verbs().count("renew") == 1
    assert older.told == []


async def test_a_session_that_ended_is_let_go_and_its_socket_stays_open(
    engine: Engine, other: Engine, store: ScriptedStore
) -> None:
    await engine.reset("s", reset())
    socket = await Socket(engine).open()
    async with kept_up(engine):
        await other.end("s")
        await until(lambda: not socket.attachment.attached)
        assert socket.told == []
        with pytest.raises(SessionLost):
            await socket.step()
        await socket.reset(reset("again"))
        assert step_number(await socket.step()) == 1


@pytest.mark.parametrize("away", [REFUSED, UnreadableRecord()])
async def test_upkeep_goes_on_after_the_store_was_away(
    worker: Engine, short: ScriptedStore, away: Fault | Exception
) -> None:
    for verb in ("renew", "keep"):
        short.script[verb].extend([away, away])
    async with kept_up(worker):
        socket = await Socket(worker).open(None)
        await until(lambda: renewals(short) >= 4 and short.verbs().count("keep") >= 4)
        await socket.reset()
        await socket.step()


async def test_the_pools_keys_are_kept_while_it_is_in_use_and_only_then(worker: Engine, short: ScriptedStore) -> None:
    upkeep = Upkeep(worker, session_ttl_s=FAR_TTL_S)
    await upkeep._keep()
    assert short.verbs() == []
    await worker.reset("s", reset())
    short.calls.clear()
    await upkeep._keep()
    await upkeep._keep()
    assert short.verbs() == ["keep"]
    await Socket(worker).open("s")
    short.calls.clear()
    for _ in range(3):
        await upkeep._keep()
    assert short.verbs() == ["keep"] * 3


async def test_upkeep_that_stopped_does_nothing_more(worker: Engine, short: ScriptedStore) -> None:
    async with kept_up(worker):
        await Socket(worker).open(None)
        await until(lambda: renewals(short) >= 1)
    short.calls.clear()
    await asyncio.sleep(TTL_S / 2)
    assert short.calls == []


async def test_a_bug_in_one_round_is_logged_and_the_next_round_goes_on(
    engine: Engine, store: ScriptedStore, capsys: pytest.CaptureFixture[str]
) -> None:
    await engine.reset("s", reset())
    await Socket(engine).open()
    store.script["renew"].append(RuntimeError("a bug"))
    async with kept_up(engine):
        await until(lambda: store.verbs().count("renew") >= 2)
    assert "upkeep failed" in capsys.readouterr().out


async def test_what_becomes_of_the_store_is_logged_once_each_time(
    worker: Engine, short: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.upkeep.WATCH_S", 0.01)
    with capture_logs() as logged:
        async with kept_up(worker):
            short.always["ping"] = StoreFull("refused: OOM")
            await until(lambda: FULL in [line["event"] for line in logged])
            short.always["ping"] = REFUSED
            await until(lambda: AWAY in [line["event"] for line in logged])
            pings = short.verbs().count("ping")
            await until(lambda: short.verbs().count("ping") > pings + 3)
            del short.always["ping"]
            await until(lambda: BACK in [line["event"] for line in logged])
    assert [line["event"] for line in logged if "store" in line["event"]] == [FULL, AWAY, BACK]
    assert [line["reason"] for line in logged if "reason" in line] == ["refused: OOM", "scripted"]
