"""One behaviour, three transports: a server over WebSocket, over HTTP, and none at all."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel

from metagame import (
    AsyncGameEnv,
    AsyncMetaGameEnv,
    CapacityReached,
    EpisodeOver,
    GameFailed,
    InvalidAction,
    InvalidRequest,
    LocalTransport,
    MetaGameAction,
    MetaGameEnv,
    NoEpisode,
    RequestConflict,
    SessionLost,
    SessionMoved,
    SessionTakenOver,
    TooLarge,
)
from metagame.client.transport import Transport, parse_base_url
from metagame.core.session import Expect
from metagame.errors import AnswerForgotten
from metagame.games import Observation, State
from metagame.wire.requests import CloseRequest, ResetRequest, StateRequest, StepRequest
from tests.client.real_server import real_server
from tests.games.pig import PigAction, PigGame, PigObservation
from tests.games.play import PIG

pytestmark = pytest.mark.anyio

Options = dict[str, Any]
HELLO = MetaGameAction(message="hello")


class AsyncPigEnv(AsyncGameEnv[PigAction, PigObservation]):
    action_type = PigAction
    observation_type = PigObservation


class BrittlePig(PigGame):
    """Pig, broken in episodes of seed 13 as soon as the player holds."""

    def step(self, state: State, action: BaseModel) -> tuple[State, Observation]:
        if isinstance(action, PigAction) and (state["seed"], action.move) == (13, "hold"):
            message = "unlucky"
            raise RuntimeError(message)
        return super().step(state, action)


@pytest.fixture(scope="module")
def echo_url() -> Iterator[str]:
    with real_server() as url:
        yield url


@pytest.fixture(scope="module")
def pig_url() -> Iterator[str]:
    with real_server(BrittlePig()) as url:
        yield url


@pytest.fixture(params=["websocket", "http", "local"])
def echo(request: pytest.FixtureRequest, echo_url: str) -> Options:
    """What makes a client of one pool, whatever the transport."""
    if request.param == "local":
        return {"transport": LocalTransport()}
    return {"base_url": echo_url, "transport": request.param}


@pytest.fixture(params=["websocket", "http", "local"])
def pig(request: pytest.FixtureRequest, pig_url: str) -> Options:
    if request.param == "local":
        return {"transport": LocalTransport(BrittlePig())}
    return {"base_url": pig_url, "transport": request.param}


@pytest.fixture
def transport(echo: Options) -> Callable[[], Transport]:
    """Transports themselves, for what no client sends."""

    def make() -> Transport:
        return AsyncMetaGameEnv(**echo)._transport

    return make


async def test_an_episode(echo: Options) -> None:
    async with AsyncMetaGameEnv(**echo) as env:
        ready = await env.reset(seed=3)
        assert ready.observation.echoed_message == "Meta Game environment ready!"
        assert (ready.reward, ready.done, ready.metadata) == (0.0, False, {})
        for number, (message, reward) in enumerate([("héé😀", 0.4), ("one", 0.3), ("", 0.0), ("a\0b", 0.3)], 1):
            result = await env.step(MetaGameAction(message=message))
            assert result.observation.echoed_message == message
            assert (result.reward, result.metadata) == (reward, {"original_message": message, "step": number})
        state = await env.state()
        assert (state.step_count, len(state.episode_id or "")) == (4, 36)
        await env.reset(episode_id="again")
        assert (await env.state()).model_dump() == {"episode_id": "again", "step_count": 0}


async def test_closing_ends_the_session_and_not_the_server(echo: Options) -> None:
    env = AsyncMetaGameEnv(**echo)
    await env.reset()
    await env.close()
    async with AsyncMetaGameEnv(**echo, session_id=env.session_id) as other:
        with pytest.raises(SessionLost, match="reset"):
            await other.state()
        with pytest.raises(SessionLost):
            await other.step(HELLO)


async def test_a_step_before_a_reset_is_refused_and_the_client_goes_on(echo: Options) -> None:
    async with AsyncMetaGameEnv(**echo) as env:
        with pytest.raises(NoEpisode, match="reset"):
            await env.step(HELLO)
        assert (await env.state()).episode_id is None
        await env.reset()
        assert (await env.step(HELLO)).reward == 0.5


async def test_a_session_ended_by_somebody_else_is_lost_until_a_reset(echo: Options) -> None:
    env = AsyncMetaGameEnv(**echo)
    await env.reset()
    await env.step(HELLO)
    await _end(echo, env.session_id)
    with pytest.raises(SessionLost):
        await env.step(HELLO)
    await env.reset()
    assert (await env.step(HELLO)).metadata["step"] == 1
    await env.close()


async def test_a_session_stepped_by_somebody_else_is_noticed(echo: Options) -> None:
    env = AsyncMetaGameEnv(**_polite(echo))
    await env.reset()
    other = AsyncMetaGameEnv(**_polite(echo), session_id=env.session_id, shared=True)
    await other.step(HELLO)
    with pytest.raises(SessionMoved) as caught:
        await env.step(HELLO)
    assert caught.value.fields["step_count"] == 1
    assert (await env.state()).step_count == 1
    assert (await env.step(HELLO)).metadata["step"] == 2
    await other.close()
    assert (await env.step(HELLO)).metadata["step"] == 3
    await env.close()


async def test_bad_messages_cost_an_error_and_nothing_else(echo: Options) -> None:
    async with AsyncMetaGameEnv(**echo) as env:
        await env.reset()
        with pytest.raises(InvalidAction) as caught:
            await env.step(MetaGameAction(message="x" * 70_000))
        assert caught.value.fields["errors"][0]["loc"][-1] == "message"
        assert "message: String should have at most 65536 characters" in str(caught.value)
        with pytest.raises(InvalidAction, match="message"):
            await env.step({"text": "x"})
        with pytest.raises(InvalidRequest):
            await env.reset(seed=-1)
        assert (await env.step(HELLO)).metadata["step"] == 1


async def test_the_same_request_happens_once(transport: Callable[[], Transport]) -> None:
    name, way = uuid4().hex, transport()
    reset = ResetRequest(episode_id="ep", request_id="r", expect=Expect(None, 0))
    assert await way.exchange(name, reset) == await way.exchange(name, reset)
    step = StepRequest({"message": "one"}, request_id="s", expect=Expect("ep", 0))
    first = await way.exchange(name, step)
    assert isinstance(first, Observation)
    assert first == await way.exchange(name, step)
    with pytest.raises(RequestConflict):
        await way.exchange(name, StepRequest({"message": "two"}, request_id="s"))
    with pytest.raises(AnswerForgotten):
        await way.exchange(name, reset)
    with pytest.raises(SessionMoved):
        await way.exchange(name, StepRequest({"message": "two"}, request_id="t", expect=Expect("ep", 0)))
    for number in range(8):
        await way.exchange(name, StepRequest({"message": "more"}, request_id=f"m{number}"))
    await way.exchange(name, StepRequest({"message": "another"}, request_id="s"))
    await way.exchange(name, CloseRequest())
    with pytest.raises(SessionLost):
        await way.exchange(name, StateRequest("u"))
    await way.close()


async def test_sessions_in_parallel_do_not_mix(echo: Options) -> None:
    async def play(number: int) -> None:
        async with AsyncMetaGameEnv(**echo) as env:
            await env.reset()
            for step in range(1, 11):
                result = await env.step({"message": f"{number}/{step}"})
                assert (result.observation.echoed_message, result.metadata["step"]) == (f"{number}/{step}", step)

    await asyncio.gather(*(play(number) for number in range(16)))


async def test_another_game_with_its_own_models(pig: Options) -> None:
    async with AsyncPigEnv(**pig) as env:
        for _ in range(2):
            await env.reset(seed=5, target=1)
            result = await env.step(PigAction(move="roll"))
            assert isinstance(result.observation, PigObservation)
            assert result.observation.rolled == [6]
            assert not result.done
            result = await env.step({"move": "hold"})
            assert (result.observation.banked, result.reward, result.done) == (6, 1.5, True)
            with pytest.raises(EpisodeOver, match="reset"):
                await env.step(PigAction(move="roll"))


async def test_an_episode_is_what_the_rules_alone_make_of_seed_and_actions(pig: Options) -> None:
    model = PIG.model()
    async with AsyncPigEnv(**pig) as env:
        await env.reset(seed=PIG.seed, **PIG.options)
        model.reset()
        for action in PIG.actions:
            result, expected = await env.step(action), model.step(action)
            assert result.observation.model_dump() == expected.fields
            assert (result.reward, result.done, result.metadata) == (expected.reward, expected.done, expected.metadata)


async def test_a_game_that_refuses_or_fails_leaves_the_session_where_it_was(pig: Options) -> None:
    async with AsyncPigEnv(**pig) as env:
        with pytest.raises(InvalidAction, match="target: not above 0"):
            await env.reset(target=0)
        await env.reset(seed=7)
        with pytest.raises(InvalidAction, match="nothing to hold"):
            await env.step(PigAction(move="hold"))
        await env.reset(seed=13)
        with pytest.raises(GameFailed):
            await env.step(PigAction(move="hold"))
        assert (await env.state()).step_count == 0
        assert len((await env.step(PigAction(move="roll"))).observation.rolled) == 1


@pytest.mark.parametrize("way", ["websocket", "http"])
async def test_a_full_pool_says_so_and_can_be_waited_for(way: Any) -> None:
    with real_server(max_sessions=1) as url:
        first = AsyncMetaGameEnv(url, transport=way)
        await first.reset()
        async with AsyncMetaGameEnv(url, transport=way) as second:
            with pytest.raises(CapacityReached) as caught:
                await second.reset()
            assert caught.value.fields["max_sessions"] == 1
        async with AsyncMetaGameEnv(url, transport=way, capacity_wait_s=30) as third:
            waiting = asyncio.create_task(third.reset())
            await first.step(HELLO)
            await first.close()
            await waiting


@pytest.mark.parametrize("way", ["websocket", "http"])
async def test_a_server_that_forgot_everything_is_a_lost_session_and_never_a_fresh_one(way: Any) -> None:
    with real_server() as url:
        env = AsyncMetaGameEnv(url, transport=way)
        await env.reset()
        await env.step(HELLO)
    stepping = asyncio.create_task(env.step(HELLO))
    await asyncio.sleep(0)
    with real_server(port=int(url.rpartition(":")[2])):
        with pytest.raises(SessionLost):
            await stepping
        await env.reset()
        assert (await env.step(HELLO)).metadata["step"] == 1
        await env.close()


async def test_a_newer_socket_owns_the_session_and_the_older_client_is_told(echo_url: str) -> None:
    older = AsyncMetaGameEnv(echo_url, session_id=uuid4().hex)
    await older.reset()
    async with AsyncMetaGameEnv(echo_url, session_id=older.session_id) as newer:
        assert (await newer.step(HELLO)).metadata["step"] == 1
        for call in (older.step(HELLO), older.state(), older.reset()):
            with pytest.raises(SessionTakenOver, match="new client"):
                await call
        await older.close()
        assert (await newer.step(HELLO)).metadata["step"] == 2


@pytest.mark.parametrize("way", ["websocket", "http"])
async def test_a_message_over_the_server_byte_limit_costs_an_error_and_nothing_else(echo_url: str, way: Any) -> None:
    async with AsyncMetaGameEnv(echo_url, transport=way) as env:
        await env.reset()
        with pytest.raises(TooLarge):
            await env.step({"message": "x" * 2**21})
        assert (await env.step(HELLO)).metadata["step"] == 1


@pytest.mark.parametrize("session_id", [".", "..", "a.b-c_D", "x" * 128])
async def test_every_session_id_can_be_used(echo: Options, session_id: str) -> None:
    async with AsyncMetaGameEnv(**echo, session_id=session_id) as env:
        await env.reset()
        assert (await env.step(HELLO)).reward == 0.5
    await _end(echo, session_id)


def test_the_quick_start_runs_as_everybody_knows_it(echo_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    from meta_game import MetaGameAction, MetaGameEnv  # noqa: PLC0415 - as in the README

    client = MetaGameEnv(base_url=echo_url)
    result = client.reset()
    print(result.observation.echoed_message)  # noqa: T201 - as in the README
    result = client.step(MetaGameAction(message="Hello, World!"))
    assert result.observation.echoed_message == "Hello, World!"
    assert result.observation.message_length == 13
    assert result.reward == 1.3
    client.close()
    assert "Meta Game environment ready!\n" in capsys.readouterr().out
    with MetaGameEnv(echo_url) as second:
        second.reset()


def test_addresses_keep_a_proxy_path() -> None:
    address, session_id = parse_base_url("wss://user:p%40ss@host:1/pre/fix/sessions/abc/")
    assert (address.http, address.websocket, session_id) == ("https://host:1/pre/fix", "wss://host:1/pre/fix", "abc")
    assert address.headers == {"Authorization": "Basic dXNlcjpwQHNz"}
    assert parse_base_url("http://[::1]:8000")[0].loopback
    assert not parse_base_url("http://example.org")[0].loopback


def _polite(echo: Options) -> Options:
    """Two sockets on one session take it from each other, so clients that share one use HTTP."""
    return echo | {"transport": "http"} if echo["transport"] == "websocket" else echo


async def _end(echo: Options, session_id: str) -> None:
    way = AsyncMetaGameEnv(**echo)._transport
    await way.exchange(session_id, CloseRequest())
    if isinstance(echo["transport"], str):
        await way.close()


def test_the_synchronous_client_is_the_same(echo: Options) -> None:
    with MetaGameEnv(**echo) as env:
        assert env.sync() is env
        assert env.state().episode_id is None
        env.reset(episode_id="ep")
        assert env.step({"message": "hello"}).reward == 0.5
        assert env.state().model_dump() == {"episode_id": "ep", "step_count": 1}
    env.close()
    with pytest.raises(SessionLost, match="closed"):
        env.step(HELLO)
