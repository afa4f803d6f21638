import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from metagame.core.codec import pack
from metagame.core.session import Snapshot
from metagame.errors import EpisodeOver, GameFailed, InvalidAction, Unavailable
from metagame.games import Observation, State, Tool
from metagame.games.echo import EchoGame
from metagame.wire.answers import error_frame
from metagame.wire.requests import ResetRequest, StepRequest
from metagame.wire.tools import ToolCall
from services.engine import Engine
from services.records import session_hash
from services.store.base import Commit, Draft, Origin
from tests.engine.asking import Socket, reset, stands, step, step_number
from tests.engine.conftest import EngineOf
from tests.engine.scripted import ScriptedStore
from tests.games.pig import PigGame

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a path and a password"


class BrokenGame(EchoGame):
    """Echo whose step or reset does what it should not."""

    def __init__(self, on_step: Callable[[], Any] | None = None, on_reset: Callable[[], Any] | None = None) -> None:
        super().__init__()
        self._on_step = on_step
        self._on_reset = on_reset

    def reset(self, seed: int, options: Mapping[str, Any]) -> tuple[State, Observation]:
        returned: tuple[State, Observation]
        returned = super().reset(seed, options) if self._on_reset is None else self._on_reset()
        return returned

    def step(self, state: State, action: BaseModel) -> tuple[State, Observation]:
        returned: tuple[State, Observation]
        returned = super().step(state, action) if self._on_step is None else self._on_step()
        return returned


def raises(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


BROKEN = {
    "raises": raises(RuntimeError(SECRET)),
    "asserts": raises(AssertionError(SECRET)),
    "recurses": raises(RecursionError(SECRET)),
    "returns nothing": lambda: None,
    "returns no observation": lambda: (0, {"message": SECRET}),
    "state is no JSON": lambda: ({SECRET}, Observation({})),
    "state is NaN": lambda: (math.nan, Observation({})),
    "reward is infinite": lambda: (0, Observation({}, reward=math.inf)),
    "observation is no JSON": lambda: (0, Observation({"seen": object()})),
    "observation is half a character": lambda: (0, Observation({"seen": "\ud800"})),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_a_step_that_the_game_fails_on_changes_nothing_and_tells_nothing(
    engine_of: EngineOf, engine: Engine, broken: Callable[[], Any]
) -> None:
    await engine.reset("s", reset())
    failing = engine_of(BrokenGame(on_step=broken))
    with pytest.raises(GameFailed) as failed:
        await failing.step("s", step("hey", "r"))
    assert SECRET.encode() not in error_frame(failed.value)
    assert failed.value.fields == {}
    assert await stands(engine) == ("e", 0)
    assert step_number(await engine.step("s", step("hey", "r"))) == 1


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_a_reset_that_the_game_fails_on_makes_no_session(
    engine_of: EngineOf, store: ScriptedStore, broken: Callable[[], Any]
) -> None:
    failing = engine_of(BrokenGame(on_reset=broken))
    with pytest.raises(GameFailed):
        await failing.reset("s", reset())
    assert await store.inner.load("s") is None


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_the_log_of_a_failed_game_says_why_and_not_what_the_client_sent(log_format: str) -> None:
    fails = f"""
import asyncio
from services import logs
from services.store.memory import MemoryStore
from tests.engine.asking import reset, step
from tests.engine.test_failures import BrokenGame, Engine, raises

async def main():
    game = BrokenGame(on_step=raises(RuntimeError("the reason")))
    engine = Engine(game, MemoryStore(max_sessions=9, ttl_ms=9999), max_sessions=9, timeout_s=1.0)
    await engine.reset("session-key", reset())
    await engine.step("session-key", step("what was sent"))

logs.configure({log_format!r}, 'worker')
try:
    asyncio.run(main())
except Exception as failed:
    print(type(failed).__name__)
"""
    done = subprocess.run([sys.executable, "-c", fails], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "GameFailed\n"
    assert "the reason" in done.stderr
    assert "what was sent" not in done.stderr
    assert "session-key" not in done.stderr


async def test_a_socket_survives_a_game_that_fails(engine_of: EngineOf) -> None:
    game = BrokenGame(on_step=raises(RuntimeError(SECRET)))
    socket = await Socket(engine_of(game)).open(None)
    await socket.reset()
    for _ in range(2):
        with pytest.raises(GameFailed):
            await socket.step()
    game._on_step = None
    assert step_number(await socket.step()) == 1


async def test_what_a_game_refuses_names_the_fields(engine_of: EngineOf) -> None:
    engine = engine_of(PigGame())
    with pytest.raises(InvalidAction) as refused:
        await engine.reset("s", ResetRequest(options={"target": 0}))
    assert refused.value.fields["errors"][0]["loc"] == ["target"]
    await engine.reset("s", ResetRequest(seed=1, options={"target": 50}))
    with pytest.raises(InvalidAction) as refused:
        await engine.step("s", StepRequest({"move": "hold"}))
    assert json.loads(error_frame(refused.value))["data"]["code"] == "VALIDATION_ERROR"
    assert (await engine.state("s")).step_count == 0


async def test_a_step_after_the_end_is_refused_until_a_reset(engine_of: EngineOf) -> None:
    engine = engine_of(PigGame())
    seen = await engine.reset("s", ResetRequest(seed=1, options={"target": 1}))
    while not seen.done:
        move = "hold" if seen.fields["turn"] else "roll"
        seen = await engine.step("s", StepRequest({"move": move}, request_id=f"r{move}{seen.fields}"))
    ended = await stands(engine)
    with pytest.raises(EpisodeOver):
        await engine.step("s", StepRequest({"move": "roll"}))
    assert await stands(engine) == ended
    await engine.reset("s", ResetRequest(seed=1))
    await engine.step("s", StepRequest({"move": "roll"}))


async def with_body(store: ScriptedStore, body: bytes) -> None:
    await store.inner.make("s", Draft(Origin.NAMED, bytes(15) + b"\1", body))


@pytest.mark.parametrize("body", [b"9...", b"3" + bytes(8)])
async def test_a_record_of_an_unknown_format_is_a_retryable_error_and_stays_as_it_is(
    engine: Engine, store: ScriptedStore, body: bytes
) -> None:
    await with_body(store, body)
    before = await store.inner.load("s")
    for asked in (
        engine.step("s", step("hey", "r")),
        engine.reset("s", reset()),
        engine.state("s"),
        engine.inspect("s"),
        Socket(engine).open("s"),
    ):
        with pytest.raises(Unavailable, match="nothing was changed") as unknown:
            await asked
        assert unknown.value.fields == {"retryable": True}
    assert await store.inner.load("s") == before
    assert engine.attachments == set()


async def test_a_socket_meets_an_unknown_format_after_it_opened(engine: Engine, store: ScriptedStore) -> None:
    await engine.reset("s", reset())
    socket = await Socket(engine).open()
    record = await store.inner.load("s")
    assert record is not None
    newer = Commit(b"n" * 20, record.generation, bytes(15) + b"\2", b"9...")
    await store.inner.commit("s", newer)
    for asked in (socket.step(), socket.state(), socket.reset()):
        with pytest.raises(Unavailable) as unknown:
            await asked
        assert unknown.value.fields == {"retryable": True}
    kept = await store.inner.load("s")
    assert kept is not None
    assert (kept.body, kept.generation) == (newer.body, newer.generation)


async def test_a_record_of_the_next_format_is_read_and_written_back_in_the_current_one(
    engine: Engine, store: ScriptedStore
) -> None:
    snapshot = Snapshot("e", 4, state=4)
    await with_body(store, pack(snapshot, Observation({}, 0.0), form=b"2"))
    assert await stands(engine) == ("e", 4)
    assert step_number(await engine.step("s", step())) == 5
    record = await store.inner.load("s")
    assert record is not None
    assert record.body[:1] == b"1"
    assert replace(snapshot, step_count=5).step_count == (await engine.state("s")).step_count


async def test_a_page_lists_an_unknown_record_without_what_it_says(engine: Engine, store: ScriptedStore) -> None:
    await with_body(store, b"9...")
    await engine.reset("known", reset())
    items, _ = await engine.page(None, 10)
    shown = {item.session_id: item for item in items}
    assert shown.pop("known").step_count == 0
    [unknown] = shown.values()
    assert (unknown.episode_id, unknown.step_count, unknown.generation) == (None, None, None)


async def test_a_failure_of_the_game_is_logged_once(engine_of: EngineOf, engine: Engine) -> None:
    await engine.reset("s", reset())
    failing = engine_of(BrokenGame(on_step=lambda: 1 / 0))
    socket = await Socket(failing).open()
    with capture_logs() as logged:
        for asked in (failing.step("s", step()), socket.step()):
            with pytest.raises(GameFailed):
                await asked
    assert [line["event"] for line in logged] == ["the game failed"] * 2
    assert logged[0]["session"] == session_hash("s")  # so that whoever reads it finds the session


class BrokenTool(EchoGame):
    """Echo whose tools fail on what they are to say of a step."""

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(replace(tool, result=lambda _seen: 1 / 0) for tool in super().tools)


async def test_a_tool_that_fails_is_logged_with_its_session(engine_of: EngineOf, engine: Engine) -> None:
    await engine.reset("s", reset())
    failing = engine_of(BrokenTool())
    [tool, *_] = failing.tools()
    with capture_logs() as logged, pytest.raises(GameFailed):
        await failing.call("s", ToolCall(tool.name, {"message": "a"}))
    [line] = logged
    assert (line["event"], line["tool"], line["session"]) == ("the game failed", tool.name, session_hash("s"))
    assert isinstance(line["exc_info"].__cause__, ZeroDivisionError)
