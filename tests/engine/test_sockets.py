import asyncio

import pytest

from metagame.errors import AnswerForgotten, CapacityReached, SessionLost, SessionMoved, SessionTakenOver
from metagame.games.echo import EchoGame
from services.engine import Engine
from services.store.base import Origin
from services.store.memory import MemoryStore
from tests.engine.asking import Socket, reset, stands, step, step_number, steps
from tests.engine.scripted import Gate, ScriptedStore

pytestmark = pytest.mark.anyio


async def test_a_newer_socket_takes_the_session_over(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())
    older = await Socket(engine).open()
    await older.step()
    newer = await Socket(other).open()
    for refused in (older.step(), older.reset(), older.state()):
        with pytest.raises(SessionTakenOver):
            await refused
    assert step_number(await newer.step()) == 2
    assert await newer.state() == ("e", 2)


async def test_once_attached_the_state_is_final_for_what_older_sockets_sent(
    engine: Engine, other: Engine, store: ScriptedStore
) -> None:
    await engine.reset("s", reset())
    older = await Socket(engine).open()
    await older.step()
    gate = Gate()
    store.script["commit"].append(gate)
    in_flight = asyncio.create_task(older.step(step("late", "r")))
    await gate.reached.wait()
    newer = await Socket(other).open()
    final = await newer.state()
    gate.open()
    with pytest.raises(SessionTakenOver):
        await in_flight
    assert final == await newer.state() == ("e", 1)


async def test_a_socket_can_take_back_what_was_taken_over(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())
    await Socket(engine).open()
    newer = await Socket(other).open()
    again = await Socket(engine).open()
    assert step_number(await again.step()) == 1
    with pytest.raises(SessionTakenOver):
        await newer.step()


async def test_http_neither_attaches_nor_is_fenced(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())
    socket = await Socket(engine).open()
    await steps(other, 2)
    assert step_number(await socket.step()) == 3
    await steps(other, 1)
    assert await socket.state() == ("e", 4)
    assert (await other.inspect("s")).attached


async def test_a_socket_does_not_step_in_an_episode_it_never_saw(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())
    socket = await Socket(engine).open()
    await socket.step()
    await other.reset("s", reset("theirs"))
    for _ in range(2):
        with pytest.raises(SessionMoved) as moved:
            await socket.step()
        assert moved.value.fields == {"episode_id": "theirs", "step_count": 0}
    assert await socket.state() == ("theirs", 0)
    assert step_number(await socket.step()) == 1


async def test_a_reset_of_its_own_lets_a_socket_go_on_as_well(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())
    socket = await Socket(engine).open()
    await other.reset("s", reset("theirs"))
    await socket.reset(reset("mine"))
    assert step_number(await socket.step()) == 1
    assert await stands(other) == ("mine", 1)


async def test_a_socket_that_opens_in_a_running_episode_has_seen_it(engine: Engine) -> None:
    await engine.reset("s", reset())
    await steps(engine, 2)
    socket = await Socket(engine).open()
    assert step_number(await socket.step()) == 3


async def test_the_first_reset_of_a_named_socket_makes_the_session(engine: Engine) -> None:
    socket = await Socket(engine).open("new")
    with pytest.raises(SessionLost):
        await socket.step()
    with pytest.raises(SessionLost):
        await socket.state()
    with pytest.raises(SessionLost):
        await engine.inspect("new")
    await socket.reset(reset("e"))
    assert (await engine.inspect("new")).attached
    assert step_number(await socket.step()) == 1


async def test_a_socket_attaches_to_a_session_that_was_made_meanwhile(engine: Engine, other: Engine) -> None:
    socket = await Socket(engine).open("s")
    await other.reset("s", reset("theirs"))
    with pytest.raises(SessionMoved):
        await socket.step()
    assert await socket.state() == ("theirs", 0)
    assert step_number(await socket.step()) == 1
    assert (await other.inspect("s")).attached


@pytest.mark.parametrize("request_id", [None, "r"])
async def test_a_socket_whose_first_reset_loses_the_race_to_make_the_session_owns_it_all_the_same(
    engine: Engine, other: Engine, store: ScriptedStore, request_id: str | None
) -> None:
    socket = await Socket(engine).open("s")
    gate = Gate()
    store.script["make"].append(gate)
    racing = asyncio.create_task(socket.reset(reset("same", request_id)))
    await gate.reached.wait()
    first = await other.reset("s", reset("same", request_id))
    gate.open()
    assert await racing == first
    assert (await other.inspect("s")).attached
    assert step_number(await socket.step()) == 1
    assert (await other.inspect("s")).generation == (3 if request_id is None else 2)


async def test_a_session_that_ended_is_made_again_by_the_sockets_reset(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())
    socket = await Socket(engine).open()
    await socket.step()
    await other.end("s")
    with pytest.raises(SessionLost):
        await socket.step()
    await socket.reset(reset("again"))
    assert step_number(await socket.step()) == 1
    assert await stands(other) == ("again", 1)


@pytest.mark.parametrize("noticed", [True, False])
async def test_a_socket_of_an_ended_session_takes_nothing_from_who_made_it_again(
    engine: Engine, other: Engine, *, noticed: bool
) -> None:
    await engine.reset("s", reset())
    older = await Socket(engine).open()
    await other.end("s")
    if noticed:
        with pytest.raises(SessionLost):
            await older.step()
    newer = await Socket(other).open()
    await newer.reset(reset("again"))
    for refused in (older.step(), older.state(), older.reset()):
        with pytest.raises(SessionTakenOver):
            await refused
    assert await newer.state() == ("again", 0)
    assert step_number(await newer.step()) == 1


async def test_of_two_sockets_that_wait_for_a_session_who_makes_it_has_it_and_the_other_opens_anew(
    engine: Engine, other: Engine
) -> None:
    """Which of them is newer nobody can know across workers: so none takes it from the other unseen."""
    maker = await Socket(engine).open()
    waiting = await Socket(other).open()
    first = await maker.reset(reset(None, "r"))
    with pytest.raises(SessionTakenOver):
        await waiting.reset(reset(None, "r"))
    assert step_number(await maker.step()) == 1
    again = await Socket(other).open()
    with pytest.raises(AnswerForgotten):
        await again.reset(reset(None, "r"))
    assert step_number(await again.step()) == 2
    assert first.fields["message_length"] == 0


async def test_a_reset_finds_out_by_itself_that_the_session_ended(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())
    socket = await Socket(engine).open()
    await other.end("s")
    await socket.reset(reset("again"))
    assert (await other.inspect("s")).attached
    await other.end("s")
    await other.reset("s", reset("http"))
    assert await stands(other) == ("http", 0)


async def test_an_anonymous_session_ends_with_its_socket_and_frees_its_place() -> None:
    store = MemoryStore(max_sessions=1, ttl_ms=60_000)
    engine = Engine(EchoGame(), store, max_sessions=1, timeout_s=1.0)
    for closed in (True, False):
        socket = await Socket(engine).open(None)
        assert await socket.state() == (None, 0)
        await socket.reset()
        await socket.step()
        with pytest.raises(CapacityReached):
            await Socket(engine).open(None)
        await socket.leave(closed=closed)
        with pytest.raises(SessionLost):
            await engine.inspect(socket.session_id)
    assert engine.attachments == set()


async def test_anonymous_sessions_have_names_that_nobody_can_guess(engine: Engine) -> None:
    names = {(await Socket(engine).open(None)).session_id for _ in range(20)}
    assert len(names) == 20
    assert {len(name) for name in names} == {32}


@pytest.mark.parametrize("maker", ["socket", "http", "made"])
@pytest.mark.parametrize("closed", [True, False])
async def test_who_made_a_session_says_what_a_close_frame_does(engine: Engine, maker: str, *, closed: bool) -> None:
    if maker == "made":
        await engine.make("s")
    elif maker == "http":
        await engine.reset("s", reset())
    socket = await Socket(engine).open()
    await socket.reset()
    await socket.step()
    await socket.leave(closed=closed)
    if closed and maker != "made":
        with pytest.raises(SessionLost):
            await engine.inspect("s")
    else:
        item = await engine.inspect("s")
        assert (item.step_count, item.attached) == (1, False)


async def test_a_socket_made_by_nobody_leaves_nothing_behind(engine: Engine, store: ScriptedStore) -> None:
    socket = await Socket(engine).open("s")
    await socket.leave(closed=True)
    assert store.verbs() == ["load"]


@pytest.mark.parametrize("closed", [True, False])
async def test_an_older_socket_that_leaves_ends_nothing_of_the_newer_ones(
    engine: Engine, other: Engine, *, closed: bool
) -> None:
    older = await Socket(engine).open()
    await older.reset()
    newer = await Socket(other).open()
    await older.leave(closed=closed)
    assert (await other.inspect("s")).attached
    assert step_number(await newer.step()) == 1


async def test_an_episode_goes_on_where_a_dropped_socket_left_it(engine: Engine, other: Engine) -> None:
    socket = await Socket(engine).open()
    await socket.reset()
    await socket.step()
    await socket.leave(closed=False)
    again = await Socket(other).open()
    assert await again.state() == ("e", 1)
    assert step_number(await again.step()) == 2


@pytest.mark.parametrize("origin", [Origin.NAMED, Origin.MADE])
async def test_a_reset_leaves_the_sessions_origin_as_it_is(
    engine: Engine, store: ScriptedStore, origin: Origin
) -> None:
    if origin is Origin.MADE:
        await engine.make("s")
    await engine.reset("s", reset())
    await engine.reset("s", reset())
    record = await store.inner.load("s")
    assert record is not None
    assert record.origin is origin
