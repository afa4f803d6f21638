import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from metagame.core.remembered import REMEMBERED
from metagame.errors import MetaGameError, SessionLost, SessionTakenOver, Unavailable
from services.engine import Engine
from services.store.base import StoreFull, UnreadableRecord
from services.submission import ROUNDS
from tests.engine.asking import Socket, reset, stands, step, step_number, steps
from tests.engine.conftest import EngineOf
from tests.engine.scripted import LOST_AFTER, LOST_BEFORE, REFUSED, Fault, ScriptedStore

pytestmark = pytest.mark.anyio

SHORT_S = 0.15
CERTAIN = {"retryable": True}
SAFE_TO_REPEAT = {"retryable": True, "outcome": "unknown"}
UNSAFE_TO_REPEAT = {"retryable": False, "outcome": "unknown"}
each_fault = pytest.mark.parametrize("fault", [REFUSED, LOST_BEFORE, LOST_AFTER], ids=["refused", "before", "after"])
with_or_without_id = pytest.mark.parametrize("request_id", [None, "r"])


async def fields_of(asked: Awaitable[object]) -> dict[str, Any]:
    with pytest.raises(Unavailable) as away:
        await asked
    return away.value.fields


@each_fault
@with_or_without_id
async def test_a_commit_whose_answer_was_lost_is_sent_again_as_it_was_and_happens_once(
    engine: Engine, store: ScriptedStore, fault: Fault, request_id: str | None
) -> None:
    await engine.reset("s", reset())
    store.script["commit"].extend([fault, fault])
    seen = await engine.step("s", step("hey", request_id))
    assert step_number(seen) == 1
    first, *again = store.commits()
    assert again == [first, first]
    assert await stands(engine) == ("e", 1)


@each_fault
@with_or_without_id
async def test_a_session_whose_making_was_lost_is_made_once(
    engine: Engine, store: ScriptedStore, fault: Fault, request_id: str | None
) -> None:
    store.script["make"].append(fault)
    await engine.reset("s", reset(None, request_id))
    first, again = store.drafts()
    assert again == first
    item = await engine.inspect("s")
    assert (item.generation, item.step_count) == (1, 0)


@each_fault
async def test_a_sockets_step_is_resent_and_the_socket_goes_on(
    engine: Engine, store: ScriptedStore, fault: Fault
) -> None:
    socket = await Socket(engine).open(None)
    await socket.reset()
    store.script["commit"].append(fault)
    assert step_number(await socket.step()) == 1
    assert step_number(await socket.step()) == 2
    assert (await engine.inspect(socket.session_id)).generation == 4


@each_fault
async def test_an_anonymous_socket_opens_once(engine: Engine, store: ScriptedStore, fault: Fault) -> None:
    store.script["make"].append(fault)
    socket = await Socket(engine).open(None)
    await socket.reset()
    items, _ = await engine.page(None, 10)
    assert [(item.session_id, item.attached) for item in items] == [(socket.session_id, True)]


@each_fault
async def test_reading_and_attaching_are_resent_too(engine: Engine, store: ScriptedStore, fault: Fault) -> None:
    await engine.reset("s", reset())
    for verb in ("load", "attach", "inspect", "page", "end"):
        store.script[verb].append(fault)
    assert await stands(engine) == ("e", 0)
    socket = await Socket(engine).open()
    assert step_number(await socket.step()) == 1
    assert (await engine.inspect("s")).attached
    assert len((await engine.page(None, 10))[0]) == 1
    await engine.end("s")
    with pytest.raises(SessionLost):
        await engine.inspect("s")


@pytest.mark.parametrize(
    ("fault", "request_id", "said"),
    [
        (REFUSED, None, CERTAIN),
        (REFUSED, "r", CERTAIN),
        (LOST_BEFORE, None, UNSAFE_TO_REPEAT),
        (LOST_BEFORE, "r", SAFE_TO_REPEAT),
        (LOST_AFTER, None, UNSAFE_TO_REPEAT),
        (LOST_AFTER, "r", SAFE_TO_REPEAT),
    ],
)
async def test_after_the_deadline_the_error_says_what_is_known(
    engine_of: EngineOf, store: ScriptedStore, fault: Fault, request_id: str | None, said: dict[str, Any]
) -> None:
    engine = engine_of(timeout_s=SHORT_S)
    await engine.reset("s", reset())
    store.always["commit"] = fault
    assert await fields_of(engine.step("s", step("hey", request_id))) == said
    assert len(store.commits()) > 1
    assert len(set(store.commits())) == 1
    del store.always["commit"]
    assert await stands(engine) == ("e", 1 if fault.carried_out else 0)
    if request_id is not None:
        assert step_number(await engine.step("s", step("hey", request_id))) == 1
        assert await stands(engine) == ("e", 1)


async def test_one_lost_answer_among_refusals_leaves_the_outcome_unknown(
    engine_of: EngineOf, store: ScriptedStore
) -> None:
    engine = engine_of(timeout_s=SHORT_S)
    await engine.reset("s", reset())
    store.script["commit"].append(LOST_AFTER)
    store.always["commit"] = REFUSED
    assert await fields_of(engine.step("s", step())) == UNSAFE_TO_REPEAT


@each_fault
async def test_a_read_that_got_no_answer_leaves_nothing_unknown(
    engine_of: EngineOf, store: ScriptedStore, fault: Fault
) -> None:
    engine = engine_of(timeout_s=SHORT_S)
    await engine.reset("s", reset())
    store.always["load"] = fault
    for asked in (engine.step("s", step()), engine.state("s"), engine.reset("s", reset())):
        assert await fields_of(asked) == CERTAIN


async def test_a_request_gives_up_within_its_deadline(engine_of: EngineOf, store: ScriptedStore) -> None:
    engine = engine_of(timeout_s=SHORT_S)
    store.always["load"] = REFUSED
    began = asyncio.get_running_loop().time()
    await fields_of(engine.step("s", step()))
    assert asyncio.get_running_loop().time() - began <= SHORT_S + 2  # what a busy machine may add


@with_or_without_id
@pytest.mark.parametrize("others", [1, REMEMBERED])
async def test_a_lost_commit_that_was_certainly_not_carried_out_is_decided_again(
    engine: Engine, other: Engine, store: ScriptedStore, request_id: str | None, others: int
) -> None:
    await engine.reset("s", reset())

    async def meanwhile() -> None:
        await steps(other, others)

    store.script["commit"].extend([LOST_BEFORE, meanwhile])
    assert step_number(await engine.step("s", step("hey", request_id))) == others + 1
    assert await stands(engine) == ("e", others + 1)


@with_or_without_id
@pytest.mark.parametrize("fault", [LOST_BEFORE, LOST_AFTER], ids=["before", "after"])
async def test_a_lost_commit_that_the_session_may_have_forgotten_is_not_decided_again(
    engine: Engine, store: ScriptedStore, fault: Fault, request_id: str | None
) -> None:
    await engine.reset("s", reset())

    async def meanwhile() -> None:
        await steps(engine, REMEMBERED + 1)

    store.script["commit"].extend([fault, meanwhile])
    assert await fields_of(engine.step("s", step("hey", request_id))) == UNSAFE_TO_REPEAT
    assert (await stands(engine))[1] == REMEMBERED + 1 + fault.carried_out


async def test_a_request_that_was_long_on_its_way_is_not_decided_where_its_id_may_be_forgotten(
    engine: Engine, other: Engine, store: ScriptedStore
) -> None:
    await engine.reset("s", reset())
    store.script["commit"].append(lambda: steps(other, REMEMBERED + 1))
    assert await fields_of(engine.step("s", step("hey", "r"))) == CERTAIN
    assert await stands(engine) == ("e", REMEMBERED + 1)
    store.script["commit"].append(lambda: steps(other, REMEMBERED + 1))
    assert step_number(await engine.step("s", step("hey"))) == 2 * REMEMBERED + 3


async def test_a_sockets_old_cache_is_no_reason_to_refuse(engine: Engine, other: Engine) -> None:
    await engine.reset("s", reset())
    socket = await Socket(engine).open()
    await steps(other, 2 * REMEMBERED)
    assert step_number(await socket.step(step("hey", "r"))) == 2 * REMEMBERED + 1


async def test_a_lost_commit_is_not_decided_again_in_another_session_of_the_name(
    engine: Engine, other: Engine, store: ScriptedStore
) -> None:
    await engine.reset("s", reset())

    async def meanwhile() -> None:
        await other.end("s")
        await other.reset("s", reset("again"))

    store.script["commit"].extend([LOST_AFTER, meanwhile])
    assert await fields_of(engine.step("s", step())) == UNSAFE_TO_REPEAT
    assert await stands(engine) == ("again", 0)


async def test_a_lost_commit_of_a_session_that_ended_is_said_to_be_lost(
    engine: Engine, other: Engine, store: ScriptedStore
) -> None:
    await engine.reset("s", reset())
    store.script["commit"].extend([LOST_AFTER, lambda: other.end("s")])
    with pytest.raises(SessionLost):
        await engine.step("s", step())


async def test_a_lost_commit_of_a_socket_taken_over_is_not_carried_out_again(
    engine: Engine, other: Engine, store: ScriptedStore
) -> None:
    await engine.reset("s", reset())
    older = await Socket(engine).open()
    newer = Socket(other)
    store.script["commit"].extend([LOST_AFTER, newer.open])
    with pytest.raises(SessionTakenOver):
        await older.step()
    assert await newer.state() == ("e", 1)


async def test_a_replay_after_others_went_on_says_that_it_was_committed(
    engine: Engine, other: Engine, store: ScriptedStore
) -> None:
    await engine.reset("s", reset())

    async def meanwhile() -> None:
        await steps(other, 2)

    store.script["commit"].extend([LOST_AFTER, meanwhile])
    with pytest.raises(MetaGameError, match="already committed as step 1"):
        await engine.step("s", step("hey"))
    assert await stands(engine) == ("e", 3)


@with_or_without_id
async def test_a_worker_that_slept_over_its_deadline_does_not_decide_again(
    engine_of: EngineOf, other: Engine, store: ScriptedStore, request_id: str | None
) -> None:
    engine = engine_of(timeout_s=SHORT_S)
    await engine.reset("s", reset())

    async def meanwhile() -> None:
        await steps(other, 1)
        await asyncio.sleep(SHORT_S)

    store.script["commit"].append(meanwhile)
    assert await fields_of(engine.step("s", step("hey", request_id))) == CERTAIN
    assert await stands(other) == ("e", 1)


async def test_a_reset_that_slept_over_its_deadline_makes_no_session_anew(
    engine_of: EngineOf, other: Engine, store: ScriptedStore
) -> None:
    engine = engine_of(timeout_s=SHORT_S)
    await engine.reset("s", reset())

    async def meanwhile() -> None:
        await other.end("s")
        await asyncio.sleep(SHORT_S)

    store.script["commit"].append(meanwhile)
    assert await fields_of(engine.reset("s", reset())) == CERTAIN
    with pytest.raises(SessionLost):
        await other.state("s")


async def test_a_request_that_always_loses_is_sent_back_after_some_rounds(
    engine: Engine, other: Engine, store: ScriptedStore
) -> None:
    await engine.reset("s", reset())
    for _ in range(ROUNDS):
        store.script["commit"].extend([lambda: steps(other, 1), None])
    store.calls.clear()
    asked = engine.step("s", step("mine", "r"))
    assert await fields_of(asked) == CERTAIN
    assert await stands(engine) == ("e", ROUNDS)
    assert step_number(await engine.step("s", step("mine", "r"))) == ROUNDS + 1


async def test_a_request_that_loses_fewer_rounds_is_carried_out(
    engine: Engine, other: Engine, store: ScriptedStore
) -> None:
    await engine.reset("s", reset())
    for _ in range(ROUNDS - 1):
        store.script["commit"].extend([lambda: steps(other, 1), None])
    assert step_number(await engine.step("s", step("mine"))) == ROUNDS


async def test_a_record_of_a_newer_layout_is_a_retryable_error_and_not_resent(
    engine: Engine, store: ScriptedStore
) -> None:
    store.script["load"].append(UnreadableRecord())
    store.calls.clear()
    assert await fields_of(engine.step("s", step())) == CERTAIN
    assert store.verbs() == ["load"]


@pytest.mark.parametrize("closed", [True, False])
async def test_a_socket_leaves_quietly_while_the_store_is_away(
    engine_of: EngineOf, store: ScriptedStore, *, closed: bool
) -> None:
    engine = engine_of(timeout_s=SHORT_S)
    socket = await Socket(engine).open(None)
    store.always |= {"end": REFUSED, "detach": REFUSED}
    await socket.leave(closed=closed)
    assert engine.attachments == set()


@with_or_without_id
async def test_a_worker_that_slept_past_the_deadline_begins_no_commit(
    store: ScriptedStore, engine_of: EngineOf, request_id: str | None
) -> None:
    """Others may have gone on by more steps than a session remembers, so that a late one would count twice."""
    engine = engine_of(timeout_s=SHORT_S)
    await engine.reset("s", reset())
    store.script["load"].append(lambda: asyncio.sleep(2 * SHORT_S))
    assert await fields_of(engine.step("s", step("hey", request_id))) == CERTAIN
    assert store.commits() == []
    assert await stands(engine) == ("e", 0)


async def test_a_store_that_is_full_is_called_so(store: ScriptedStore, engine_of: EngineOf) -> None:
    engine = engine_of(timeout_s=SHORT_S)
    await engine.reset("s", reset())
    store.always["commit"] = StoreFull("refused: OOM")
    with pytest.raises(Unavailable, match="is full, and nothing was done") as refused:
        await engine.step("s", step())
    assert refused.value.fields == CERTAIN
