import asyncio

import pytest

from metagame.core.remembered import REMEMBERED
from metagame.errors import (
    AnswerForgotten,
    CapacityReached,
    InvalidAction,
    InvalidSessionId,
    NoEpisode,
    RequestConflict,
    SessionLost,
    SessionMoved,
    SessionTakenOver,
)
from metagame.games.echo import EchoGame
from metagame.wire.requests import ResetRequest, StepRequest
from services.engine import Engine
from services.store.memory import MemoryStore
from tests.engine.asking import Socket, reset, stands, step, step_number, steps
from tests.engine.conftest import EngineOf
from tests.engine.scripted import ScriptedStore

pytestmark = pytest.mark.anyio


async def test_a_first_reset_makes_the_session_and_starts_the_named_episode(engine: Engine) -> None:
    seen = await engine.reset("s", reset("mine"))
    assert (seen.reward, seen.done, seen.metadata) == (0.0, False, {})
    assert await stands(engine) == ("mine", 0)


async def test_an_episode_without_a_name_gets_one_of_its_own(engine: Engine) -> None:
    names = set()
    for _ in range(3):
        await engine.reset("s", reset(None))
        names.add((await engine.state("s")).episode_id)
    assert len(names) == 3
    assert None not in names


async def test_steps_over_two_workers_count_on(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())
    seen = [await worker.step("s", step("x" * 3)) for worker in (engine, other) * 4]
    assert [step_number(one) for one in seen] == list(range(1, 9))
    assert {one.reward for one in seen} == {0.3}
    assert await stands(engine) == await stands(other) == ("e", 8)


async def test_a_socket_whose_snapshot_is_stale_decides_again_on_the_newer_one(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())
    socket = await Socket(engine).open()
    await socket.step()
    await steps(other, 3)
    assert step_number(await socket.step()) == 5
    assert await stands(other) == ("e", 5)


async def test_a_socket_that_holds_the_snapshot_needs_one_call_to_the_store(
    engine: Engine, store: ScriptedStore
) -> None:
    await engine.reset("s", reset())
    socket = await Socket(engine).open()
    store.calls.clear()
    await socket.step()
    await socket.step()
    assert store.verbs() == ["commit", "commit"]


async def test_many_clients_of_one_session_lose_no_step_and_repeat_none(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())

    async def client(worker: Engine) -> list[int]:
        return [step_number(await worker.step("s", step())) for _ in range(10)]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client(worker)) for worker in (engine, other, engine)]
    numbers = [number for task in tasks for number in task.result()]
    assert sorted(numbers) == list(range(1, 31))
    assert all(task.result() == sorted(task.result()) for task in tasks)


async def test_a_step_of_a_session_that_does_not_exist_is_lost_and_makes_nothing(
    engine: Engine, store: ScriptedStore
) -> None:
    with pytest.raises(SessionLost):
        await engine.step("s", step())
    with pytest.raises(SessionLost):
        await engine.state("s")
    assert await store.inner.load("s") is None


async def test_a_step_before_the_first_reset_is_refused(engine: Engine) -> None:
    await engine.make("s")
    with pytest.raises(NoEpisode, match="reset"):
        await engine.step("s", step())
    assert await stands(engine) == (None, 0)


async def test_step_before_reset_is_allowed_on_anonymous_sockets_only(engine_of: EngineOf) -> None:
    engine = engine_of(step_before_reset=True)
    anonymous = await Socket(engine).open(None)
    assert step_number(await anonymous.step()) == 1
    assert step_number(await anonymous.step()) == 2
    assert (await anonymous.state())[1] == 2
    await engine.make("s")
    named = await Socket(engine).open("s")
    with pytest.raises(NoEpisode):
        await named.step()
    with pytest.raises(NoEpisode):
        await engine.step("s", step())


async def test_a_request_id_is_carried_out_once_and_answered_twice(engine: Engine, other: Engine) -> None:
    first = await engine.reset("s", reset(None, "r0"))
    where = await stands(engine)
    assert await other.reset("s", reset(None, "r0")) == first
    assert await stands(other) == where
    stepped = await engine.step("s", step("hey", "r1"))
    assert await other.step("s", step("hey", "r1")) == stepped
    assert await stands(engine) == (where[0], 1)


async def test_a_request_id_is_remembered_across_surfaces_and_resets(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())
    socket = await Socket(engine).open()
    stepped = await socket.step(step("hey", "r1"))
    assert await other.step("s", step("hey", "r1")) == stepped
    await other.reset("s", reset("f"))
    with pytest.raises(AnswerForgotten):
        await socket.step(step("hey", "r1"))
    assert await stands(engine) == ("f", 0)


@pytest.mark.parametrize("again", [step("other", "r"), reset("e", "r")])
async def test_the_same_id_for_another_command_is_a_conflict(engine: Engine, again: StepRequest | ResetRequest) -> None:
    await engine.reset("s", reset())
    await engine.step("s", step("hey", "r"))
    with pytest.raises(RequestConflict):
        await (engine.step("s", again) if isinstance(again, StepRequest) else engine.reset("s", again))
    assert await stands(engine) == ("e", 1)


async def test_only_the_newest_answer_is_kept_but_older_requests_never_run_again(engine: Engine) -> None:
    await engine.reset("s", reset())
    await engine.step("s", step("hey", "r1"))
    await engine.step("s", step("hey", "r2"))
    with pytest.raises(AnswerForgotten, match="already committed as step 1") as forgotten:
        await engine.step("s", step("hey", "r1"))
    assert forgotten.value.fields == {"step": 1}
    assert await stands(engine) == ("e", 2)


async def test_the_last_eight_request_ids_are_remembered_and_no_more(engine: Engine) -> None:
    await engine.reset("s", reset())
    for number in range(1, REMEMBERED + 2):
        await engine.step("s", step("hey", f"r{number}"))
    with pytest.raises(AnswerForgotten):
        await engine.step("s", step("hey", "r2"))
    assert await stands(engine) == ("e", 9)
    assert step_number(await engine.step("s", step("hey", "r1"))) == 10


async def test_requests_without_an_id_are_never_taken_for_each_other(engine: Engine) -> None:
    await engine.reset("s", reset())
    assert [step_number(await engine.step("s", step("same"))) for _ in range(3)] == [1, 2, 3]


async def test_expect_holds_for_resets_and_steps(engine: Engine) -> None:
    await engine.reset("s", reset("e", expect=(None, 0)))
    await engine.step("s", step(expect=("e", 0)))
    for wrong in (("e", 0), ("e", 2), ("f", 1), (None, 0)):
        with pytest.raises(SessionMoved) as moved:
            await engine.step("s", step(expect=wrong))
        assert moved.value.fields == {"episode_id": "e", "step_count": 1}
        with pytest.raises(SessionMoved):
            await engine.reset("s", reset("g", expect=wrong))
    assert await stands(engine) == ("e", 1)
    await engine.reset("s", reset("f", expect=("e", 1)))
    assert await stands(engine) == ("f", 0)


async def test_a_reset_that_expects_an_episode_makes_no_session(engine: Engine, store: ScriptedStore) -> None:
    with pytest.raises(SessionMoved):
        await engine.reset("s", reset(expect=("e", 3)))
    assert await store.inner.load("s") is None


async def test_a_remembered_request_is_answered_whatever_it_expects(engine: Engine) -> None:
    await engine.reset("s", reset())
    first = await engine.step("s", step("hey", "r", ("e", 0)))
    assert await engine.step("s", step("hey", "r", ("e", 0))) == first
    socket = await Socket(engine).open()
    assert await socket.step(step("hey", "r", ("e", 0))) == first


async def test_a_refusal_out_of_a_stale_cache_is_checked_with_the_store_first(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())
    socket = await Socket(engine).open()
    await steps(other, 2)
    assert step_number(await socket.step(step(expect=("e", 2)))) == 3
    await other.make("t")
    ready = await Socket(engine).open("t")
    await other.reset("t", reset("x"))
    with pytest.raises(SessionMoved) as moved:  # not NoEpisode, which the cache would say
        await ready.step()
    assert moved.value.fields == {"episode_id": "x", "step_count": 0}


async def test_an_action_that_the_game_refuses_changes_nothing(engine: Engine) -> None:
    await engine.reset("s", reset())
    with pytest.raises(InvalidAction) as refused:
        await engine.step("s", StepRequest({"message": 5}, request_id="r"))
    assert refused.value.fields["errors"][0]["loc"] == ["message"]
    assert await stands(engine) == ("e", 0)
    assert step_number(await engine.step("s", step("hey", "r"))) == 1


async def test_a_full_pool_refuses_with_its_numbers_until_a_place_is_free() -> None:
    store = MemoryStore(max_sessions=2, ttl_ms=60_000)
    engine = Engine(EchoGame(), store, max_sessions=2, timeout_s=1.0)
    await engine.reset("a", reset())
    await engine.make("b")
    for refused in (engine.reset("c", reset()), engine.make("c"), Socket(engine).open(None)):
        with pytest.raises(CapacityReached, match="2/2") as full:
            await refused
        assert full.value.fields == {"active_sessions": 2, "max_sessions": 2}
    await engine.reset("a", reset())
    await engine.end("b")
    await engine.end("b")
    await engine.reset("c", reset())


async def test_a_made_session_is_new_once_and_then_left_as_it_is(engine: Engine) -> None:
    item, made = await engine.make("s")
    assert (item.session_id, item.episode_id, item.step_count, item.attached, made) == ("s", None, 0, False, True)
    await engine.reset("s", reset())
    await engine.step("s", step())
    item, made = await engine.make("s")
    assert (item.episode_id, item.step_count, item.generation, made) == ("e", 1, 3, False)
    unnamed, made = await engine.make(None)
    assert (len(unnamed.session_id), made) == (32, True)


async def test_a_malformed_name_is_refused_before_the_store_is_asked(engine: Engine, store: ScriptedStore) -> None:
    with pytest.raises(InvalidSessionId):
        await engine.make("a b")
    assert store.calls == []


async def test_inspect_tells_where_a_session_stands_and_whether_a_socket_is_attached(engine: Engine) -> None:
    await engine.reset("s", reset())
    assert not (await engine.inspect("s")).attached
    socket = await Socket(engine).open()
    item = await engine.inspect("s")
    assert (item.attached, item.generation) == (True, 1)
    assert item.expires_in_s is not None
    assert 0 < item.expires_in_s <= 60
    await socket.leave(closed=False)
    assert not (await engine.inspect("s")).attached
    with pytest.raises(SessionLost):
        await engine.inspect("t")


async def test_the_list_pages_over_every_session(engine: Engine) -> None:
    names = {f"s{number}" for number in range(7)}
    for name in names:
        await engine.make(name)
    listed: list[str] = []
    cursor = None
    while True:
        items, cursor = await engine.page(cursor, 3)
        assert len(items) <= 3
        listed += [item.session_id for item in items]
        if cursor is None:
            break
    assert sorted(listed) == sorted(names)


async def test_a_session_ended_and_made_again_never_passes_for_the_cached_one(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())
    socket = await Socket(engine).open()
    await other.end("s")
    await other.reset("s", reset("again"))
    with pytest.raises(SessionTakenOver):
        await socket.step()
    assert await stands(other) == ("again", 0)
