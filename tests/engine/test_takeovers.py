"""Who has a session where sockets open, sleep and come late: the newest, and never a ghost of an older one."""

from __future__ import annotations

import pytest

from metagame.errors import SessionLost, SessionTakenOver, Unavailable
from services.engine import Engine
from services.store.base import Word
from services.upkeep import Upkeep
from tests.engine.asking import Socket, age, reset, stands, step, step_number
from tests.engine.conftest import EngineOf
from tests.engine.scripted import LOST_AFTER, REFUSED, ScriptedStore

pytestmark = pytest.mark.anyio
SHORT_S = 0.2
FAR_TTL_S = 1000.0


async def test_a_socket_older_than_the_session_takes_it_from_nobody(engine: Engine, other: Engine) -> None:
    older = await Socket(engine).open()
    newer = await Socket(other).open()
    await newer.reset()
    for refused in (older.state(), older.step(), older.reset(reset("mine"))):
        with pytest.raises(SessionTakenOver):
            await refused
    assert step_number(await newer.step()) == 1
    assert await newer.state() == ("e", 1)


async def test_a_socket_older_than_the_session_has_it_where_nobody_is_attached(engine: Engine, other: Engine) -> None:
    socket = await Socket(engine).open()
    await other.reset("s", reset())
    assert await socket.state() == ("e", 0)
    assert step_number(await socket.step()) == 1


@pytest.mark.parametrize("request_id", [None, "r"])
async def test_a_reset_that_sleeps_while_a_newer_socket_makes_the_session_changes_nothing(
    engine: Engine, other: Engine, store: ScriptedStore, request_id: str | None
) -> None:
    older = await Socket(engine).open()
    newer = Socket(other)

    async def meanwhile() -> None:
        await newer.open()
        await newer.reset(reset("e", request_id))
        await newer.step()

    store.script["make"].append(meanwhile)
    with pytest.raises(SessionTakenOver):
        await older.reset(reset("e", request_id))
    assert await newer.state() == ("e", 1)
    assert step_number(await newer.step()) == 2


async def test_a_socket_found_taken_over_stays_so_when_the_newer_one_has_gone(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())
    older = await Socket(engine).open()
    newer = await Socket(other).open()
    age(engine)
    await Upkeep(engine, session_ttl_s=FAR_TTL_S)._renew()
    assert [type(error) for error in older.told] == [SessionTakenOver]
    await newer.leave(closed=False)
    for refused in (older.step(), older.state(), older.reset(reset("mine"))):
        with pytest.raises(SessionTakenOver):
            await refused
    assert await stands(other) == ("e", 0)


async def test_a_renewal_that_finds_no_session_spares_one_made_anew_meanwhile(
    engine: Engine, other: Engine, store: ScriptedStore
) -> None:
    await engine.reset("s", reset())
    socket = await Socket(engine).open()
    await other.end("s")
    with pytest.raises(SessionLost):
        await socket.state()
    await socket.reset(reset("anew"))
    base = socket.attachment.held
    Upkeep(engine, session_ttl_s=FAR_TTL_S)._note(socket.attachment, None, Word.GONE, 0.0)
    assert socket.attachment.held is base
    assert step_number(await socket.step()) == 1


async def test_a_renewal_without_an_answer_is_asked_again(engine: Engine, store: ScriptedStore) -> None:
    await engine.reset("s", reset())
    socket = await Socket(engine).open()
    age(engine)
    upkeep = Upkeep(engine, session_ttl_s=FAR_TTL_S)
    upkeep._note(socket.attachment, socket.attachment.held, None, 0.0)
    await upkeep._renew()
    assert store.verbs().count("renew") == 1


@pytest.mark.parametrize("closed", [True, False])
async def test_a_session_whose_making_lost_its_answer_goes_with_its_socket(
    engine_of: EngineOf, store: ScriptedStore, closed: bool
) -> None:
    engine = engine_of(timeout_s=SHORT_S)
    socket = await Socket(engine).open()
    store.script["make"].append(LOST_AFTER)
    store.always["make"] = REFUSED
    with pytest.raises(Unavailable):
        await socket.reset()
    await socket.leave(closed=closed)
    if closed:
        with pytest.raises(SessionLost):
            await engine.inspect("s")
    else:
        assert not (await engine.inspect("s")).attached


async def test_a_session_ended_as_soon_as_it_is_made_is_made_again(
    engine: Engine, other: Engine, store: ScriptedStore
) -> None:
    store.script["inspect"].append(lambda: other.end("mine"))
    item, made = await engine.make("mine")
    assert (item.session_id, made) == ("mine", True)
    assert (await engine.inspect("mine")).step_count == 0


async def test_a_session_that_never_stays_is_refused_after_some_tries(
    engine: Engine, other: Engine, store: ScriptedStore
) -> None:
    store.always["inspect"] = lambda: other.end("mine")
    with pytest.raises(Unavailable) as refused:
        await engine.make("mine")
    assert refused.value.retryable


async def test_a_request_id_counts_across_the_sockets_of_a_client(engine: Engine, other: Engine) -> None:
    first = await Socket(engine).open()
    await first.reset(reset("e", "r"))
    second = await Socket(other).open()
    assert (await second.reset(reset("e", "r"))).fields["message_length"] == 0
    assert step_number(await second.step(step("one", "s"))) == 1
