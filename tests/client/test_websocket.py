"""What the client does when a socket, a server or an answer goes wrong."""

import asyncio
import socket
import traceback
from typing import Any

import pytest

from metagame import (
    AsyncMetaGameEnv,
    CapacityReached,
    GameFailed,
    InvalidAction,
    InvalidRequest,
    InvalidSessionId,
    MetaGameAction,
    NoEpisode,
    ProtocolError,
    SessionLost,
    SessionMoved,
    SessionTakenOver,
    TooLarge,
    Unavailable,
)
from metagame.client import session
from metagame.client.options import ClientOptions
from metagame.core.session import Expect
from metagame.wire.requests import CloseRequest, ResetRequest, StateRequest, StepRequest
from tests.client.fake_server import FakeServer

pytestmark = pytest.mark.anyio
HELLO = MetaGameAction(message="hello")


async def test_an_episode_goes_over_one_socket_of_its_own_session(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url + "/") as env:
        first = await env.reset(seed=7, episode_id="ep", level=3)
        assert (first.observation.echoed_message, first.reward, first.done) == (
            "Meta Game environment ready!",
            0.0,
            False,
        )
        second = await env.step(HELLO)
        assert (second.observation.echoed_message, second.observation.message_length) == ("hello", 5)
        assert second.reward == second.observation.reward == 0.5
        assert second.metadata == second.observation.metadata == {"original_message": "hello", "step": 1}
        state = await env.state()
        assert (state.episode_id, state.step_count) == ("ep", 1)
    assert server.paths == [f"/sessions/{env.session_id}/ws"]
    assert len(env.session_id) == 32
    reset, step, _, close = server.frames
    assert isinstance(reset, ResetRequest)
    assert isinstance(step, StepRequest)
    assert reset.payload == {"seed": 7, "episode_id": "ep", "level": 3}
    assert (reset.expect, step.expect) == (Expect(None, 0), Expect("ep", 0))
    assert reset.request_id != step.request_id
    assert close == CloseRequest()
    assert not server.sockets


@pytest.mark.parametrize("fault", ["dropped before", "dropped after", "draining"])
async def test_a_step_whose_socket_is_lost_is_sent_again_and_happens_once(server: FakeServer, fault: str) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()
        await env.step(HELLO)
        server.faults.append(fault)
        assert (await env.step(HELLO)).metadata["step"] == 2
        assert (await env.state()).step_count == 2
        first, second = [frame for frame in server.frames if isinstance(frame, StepRequest)][1:]
        assert first == second
        assert len(server.paths) == 2


async def test_a_reset_whose_answer_is_lost_is_sent_again_and_happens_once(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        server.faults.append("dropped after")
        await env.reset()
        assert server.frames[0] == server.frames[1]


async def test_a_socket_lost_between_steps_does_not_show(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()
        for number in (1, 2):
            (connection,) = server.sockets
            await connection.close(1012)
            assert (await env.step(HELLO)).metadata["step"] == number


async def test_a_server_whose_store_is_away_is_asked_again_with_the_same_request(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()
        server.faults.extend(["away", "away"])
        assert (await env.step(HELLO)).metadata["step"] == 1
        assert server.frames[1] == server.frames[2] == server.frames[3]
        assert len(server.paths) == 1


async def test_handshakes_that_a_proxy_refuses_for_now_are_tried_again(server: FakeServer) -> None:
    server.handshakes.extend([429, 502, 503, 504])
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()
        assert len(server.paths) == 5


@pytest.mark.parametrize(("status", "kind"), [(401, InvalidRequest), (403, InvalidRequest), (404, ProtocolError)])
async def test_handshakes_that_are_refused_for_good_are_not(
    server: FakeServer, status: int, kind: type[Exception]
) -> None:
    server.handshakes.append(status)
    async with AsyncMetaGameEnv(server.url) as env:
        with pytest.raises(kind, match=str(status)):
            await env.reset()
        assert len(server.paths) == 1


async def test_a_deadline_that_passes_says_that_the_step_may_have_counted(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url, deadline_s=0.3) as env:
        await env.reset()
        server.faults.extend(["dropped after"] * 100)
        with pytest.raises(Unavailable, match=r"step may have counted .* call state\(\)") as caught:
            await env.step(HELLO)
        assert caught.value.fields["outcome"] == "unknown"
        server.faults.clear()
        with pytest.raises(SessionMoved, match=r"state\(\)"):
            await env.step(HELLO)
        assert (await env.state()).step_count == 1
        assert (await env.step(HELLO)).metadata["step"] == 2


async def test_a_server_that_is_not_there_is_named_with_the_way_to_start_one() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with AsyncMetaGameEnv(url, deadline_s=3) as env:
            with pytest.raises(Unavailable, match=f"{url}.*connection refused.*metagame serve") as caught:
                await env.reset()
            assert caught.value.retryable
            shown = "".join(traceback.format_exception(caught.value))
            assert shown.count("Traceback") == 1


async def test_who_forgot_to_start_the_server_is_told_at_once_and_once(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with AsyncMetaGameEnv(f"http://user:secret@127.0.0.1:{port}", deadline_s=0.5) as env:
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await env.reset()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("metagame", "WARNING")
    assert record.getMessage() == (
        f"The server at http://127.0.0.1:{port} does not answer yet (connection refused); trying for 0.5 s."
        " `metagame serve` starts one on port 8000."
    )


async def test_a_server_that_was_there_before_may_be_away_without_a_warning(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()
        server.faults.append("dropped before")
        server.handshakes.append(502)
        await env.step(HELLO)
    assert caplog.records == []


async def test_a_server_that_says_why_it_cannot_is_quoted_at_the_deadline(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url, deadline_s=0.3) as env:
        await env.reset()
        server.faults.extend(["away"] * 100)
        with pytest.raises(Unavailable, match=r"^The store is away\. .*was not carried out: call it again") as caught:
            await env.step(HELLO)
        assert caught.value.fields == {"retryable": True}
        server.faults.clear()
        assert (await env.step(HELLO)).metadata["step"] == 1


async def test_an_attempt_that_the_deadline_would_cut_off_is_not_begun(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url, deadline_s=0.5) as env:
        await env.reset()
        server.faults.extend(["slowly away"] * 100)
        with pytest.raises(Unavailable, match=r"^The store is away\. .*was not carried out") as caught:
            await env.step(HELLO)
        assert caught.value.retryable


async def test_a_server_that_was_frozen_and_then_found_its_store_away_is_asked_again(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its attempt took more than half of the deadline, which says nothing of the next one."""
    monkeypatch.setattr(session, "LONGEST_REFUSAL_S", 0.01)
    async with AsyncMetaGameEnv(server.url, deadline_s=1.9) as env:
        await env.reset()
        server.faults.append("away after a freeze")
        assert (await env.step(HELLO)).metadata["step"] == 1


async def test_what_the_server_said_before_it_fell_silent_is_quoted_too(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url, deadline_s=0.5) as env:
        await env.reset()
        server.faults.extend(["away", "silent"])
        with pytest.raises(Unavailable, match=r"before that it said: The store is away.*may have counted"):
            await env.step(HELLO)


async def test_closing_does_not_wait_long_for_a_server_that_is_away(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "CLOSE_TIMEOUT_S", 600)
    monkeypatch.setattr(session, "CLOSE_TIMEOUT_AWAY_S", 0.05)
    env = AsyncMetaGameEnv(server.url, deadline_s=0.1)
    await env.reset()
    server.faults.extend(["away"] * 100)
    with pytest.raises(Unavailable):
        await env.step(HELLO)
    server.hold_close = True
    await env.close()
    assert server.closed["frame"] == 1


async def test_a_server_that_is_silent_is_asked_again_on_a_new_socket(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url, message_timeout_s=1) as env:
        await env.reset()
        server.faults.append("silent")
        assert (await env.step(HELLO)).metadata["step"] == 1
        assert len(server.paths) == 2


def test_by_default_a_silent_server_leaves_time_to_ask_another_one() -> None:
    default = ClientOptions()
    assert 2 * default.message_timeout_s < default.deadline_s


@pytest.mark.parametrize("fault", ["garbage", "shifted", "shifted error"])
async def test_an_answer_that_is_not_the_awaited_one_is_never_used(server: FakeServer, fault: str) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()
        server.faults.append(fault)
        with pytest.raises(ProtocolError):
            await env.step(HELLO)
        with pytest.raises(SessionMoved):
            await env.step(HELLO)
        await env.state()
        assert len(server.paths) == 2
        await env.step(HELLO)


async def test_the_late_answer_of_a_cancelled_step_is_never_taken_for_the_next(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()
        server.faults.append("late")
        server.seen.clear()
        step = asyncio.create_task(env.step(MetaGameAction(message="late")))
        await server.seen.wait()
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        with pytest.raises(SessionMoved, match="cut off"):
            await env.step(HELLO)
        assert (await env.state()).step_count == 1
        result = await env.step(HELLO)
        assert (result.observation.echoed_message, result.metadata["step"]) == ("hello", 2)


async def test_a_reset_settles_what_a_cancelled_step_left_open(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()
        server.faults.append("silent")
        server.seen.clear()
        step = asyncio.create_task(env.step(HELLO))
        await server.seen.wait()
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        await env.reset(episode_id="next")
        assert (await env.step(HELLO)).metadata["step"] == 1


async def test_tasks_that_share_a_client_take_turns(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()
        results = await asyncio.gather(*(env.step({"message": "x" * length}) for length in range(20)))
        assert [result.observation.message_length for result in results] == list(range(20))


async def test_a_step_cancelled_while_it_waits_its_turn_leaves_no_doubt(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()
        first, second = asyncio.create_task(env.step(HELLO)), asyncio.create_task(env.step(HELLO))
        await asyncio.sleep(0)
        second.cancel()
        await first
        assert (await env.step(HELLO)).metadata["step"] == 2


async def test_a_full_pool_is_refused_at_once_by_default(server: FakeServer) -> None:
    server.faults.append("full")
    async with AsyncMetaGameEnv(server.url) as env:
        with pytest.raises(CapacityReached) as caught:
            await env.reset()
        assert caught.value.fields == {"active_sessions": 2, "max_sessions": 2}
        for what_to_do in ("Close sessions", "METAGAME_MAX_SESSIONS", "capacity_wait_s="):
            assert what_to_do in str(caught.value)
        assert len(server.frames) == 1
        await env.reset()


async def test_a_full_pool_is_waited_for_if_asked(server: FakeServer) -> None:
    server.faults.extend(["full"] * 3)
    async with AsyncMetaGameEnv(server.url, capacity_wait_s=30) as env:
        await env.reset()
        assert len(server.frames) == 4


@pytest.mark.parametrize("fault", ["taken over", "taken over silently"])
async def test_a_client_that_was_taken_over_stays_detached_and_ends_nothing(server: FakeServer, fault: str) -> None:
    env = AsyncMetaGameEnv(server.url, session_id="given")
    await env.reset()
    server.faults.append(fault)
    for call in (env.step(HELLO), env.step(HELLO), env.reset(), env.state()):
        with pytest.raises(SessionTakenOver, match="new client"):
            await call
    await env.close()
    assert len(server.paths) == 1
    assert not server.closed


async def test_a_takeover_while_the_client_is_idle_is_understood(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url, session_id="given") as env:
        await env.reset()
        (connection,) = server.sockets
        await connection.close(4001)
        with pytest.raises(SessionTakenOver):
            await env.step(HELLO)


@pytest.mark.parametrize("fault", ["taken over", "taken over by name", "taken over silently"])
async def test_a_client_takes_back_what_only_a_late_socket_of_its_own_can_have_taken(
    server: FakeServer, fault: str
) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()
        server.faults.extend([fault, fault])
        assert (await env.step(HELLO)).metadata["step"] == 1
        assert server.frames[1] == server.frames[2] == server.frames[3]
        (connection,) = server.sockets
        await connection.close(4001)
        assert (await env.step(HELLO)).metadata["step"] == 2
        assert len(server.paths) == 4


async def test_a_session_of_its_own_that_stays_taken_over_ends_with_the_deadline(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url, deadline_s=0.3) as env:
        await env.reset()
        server.faults.extend(["taken over"] * 100)
        with pytest.raises(Unavailable, match="newer socket has attached"):
            await env.step(HELLO)
        server.faults.clear()
        await env.state()


async def test_a_session_that_is_gone_is_never_replaced_silently(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()
        await env.step(HELLO)
        await server.game.close()
        for _ in range(2):
            with pytest.raises(SessionLost):
                await env.step(HELLO)
        with pytest.raises(SessionLost):
            await env.state()
        await env.reset()
        assert (await env.step(HELLO)).metadata["step"] == 1


async def test_asking_for_the_state_does_not_hide_that_the_session_moved(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()
        async with AsyncMetaGameEnv(server.url, session_id=env.session_id, shared=True) as other:
            await other.step(HELLO)
        assert (await env.state()).step_count == 1
        with pytest.raises(SessionMoved) as caught:
            await env.step(HELLO)
        assert caught.value.fields["step_count"] == 1
        await env.state()
        assert (await env.step(HELLO)).metadata["step"] == 2


async def test_a_client_goes_on_in_a_session_it_is_given(server: FakeServer) -> None:
    first = AsyncMetaGameEnv(f"{server.url}/sessions/mine", shared=True)
    await first.reset(episode_id="ep")
    await first.close()
    async with AsyncMetaGameEnv(server.url, session_id="mine") as env:
        assert env.session_id == "mine"
        assert (await env.step(HELLO)).metadata["step"] == 1
        assert (await env.state()).episode_id == "ep"
        assert (await env.step(HELLO)).metadata["step"] == 2
        steps = [frame.expect for frame in server.frames if isinstance(frame, StepRequest)]
        assert steps == [Expect("ep", 0), Expect("ep", 1)]


async def test_where_a_given_session_stands_is_asked_once_before_its_first_step(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url, session_id="given") as first:
        with pytest.raises(SessionLost):
            await first.step(HELLO)
        await first.reset()
        async with AsyncMetaGameEnv(server.url, session_id="given", shared=True) as other:
            await other.step(HELLO)
            async with AsyncMetaGameEnv(server.url, session_id="given") as env:
                assert [(await env.step(HELLO)).metadata["step"] for _ in range(2)] == [2, 3]
                await other.step(HELLO)
                with pytest.raises(SessionMoved):
                    await env.step(HELLO)
    assert sum(isinstance(frame, StateRequest) for frame in server.frames) == 2


async def test_before_a_reset_no_episode_runs(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        with pytest.raises(NoEpisode):
            await env.step(HELLO)
        state = await env.state()
        assert (state.episode_id, state.step_count) == (None, 0)
        await env.reset()


async def test_a_frame_that_the_server_finds_too_large_is_not_sent_again(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()
        server.faults.append("oversize")
        with pytest.raises(TooLarge):
            await env.step(HELLO)
        assert len(server.frames) == 2
        assert (await env.step(HELLO)).metadata["step"] == 1


async def test_an_answer_over_the_client_limit_is_an_error_that_names_the_limit(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url, max_message_size_mb=0.001) as env:
        await env.reset()
        with pytest.raises(ProtocolError, match="max_message_size_mb"):
            await env.step({"message": "x" * 5000})


async def test_an_outcome_that_the_server_does_not_know_is_not_guessed(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()
        server.faults.append("away for good")
        with pytest.raises(Unavailable):
            await env.step(HELLO)
        with pytest.raises(SessionMoved):
            await env.step(HELLO)


@pytest.mark.parametrize(
    "action",
    [None, "hello", 5, {}, {"message": 5}, {"message": "x", "more": 1}, {"message": "\ud800"}, ["message"]],
)
async def test_what_is_no_action_is_refused_before_anything_is_sent(server: FakeServer, action: object) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        with pytest.raises(InvalidAction):
            await env.step(action)  # type: ignore[arg-type]
    assert not server.paths


@pytest.mark.parametrize(
    "options",
    [
        {"seed": -1},
        {"seed": 2**63},
        {"seed": "7"},
        {"seed": True},
        {"episode_id": ""},
        {"expect": {}},
        {"level": float("nan")},
        {"level": object()},
        {"level": 2**64},
    ],
)
async def test_what_a_reset_cannot_send_is_refused_before_anything_is_sent(
    server: FakeServer, options: dict[str, Any]
) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        with pytest.raises(InvalidRequest):
            await env.reset(**options)
    assert not server.paths


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "", "http://h:x", "http://h/?a=b"])
def test_a_wrong_base_url_is_refused_when_the_client_is_made(url: str) -> None:
    with pytest.raises(InvalidRequest, match="http://localhost:8000"):
        AsyncMetaGameEnv(url)


def test_no_base_url_at_all_is_refused_as_clearly() -> None:
    with pytest.raises(InvalidRequest, match="base_url is None"):
        AsyncMetaGameEnv(None)  # type: ignore[arg-type]


def test_a_malformed_session_id_is_refused_when_the_client_is_made() -> None:
    with pytest.raises(InvalidSessionId):
        AsyncMetaGameEnv(session_id="a b")
    with pytest.raises(InvalidRequest, match="Give one"):
        AsyncMetaGameEnv("http://host/sessions/a", session_id="b")


async def test_a_closed_client_says_so_and_closing_again_is_no_error(server: FakeServer) -> None:
    env = AsyncMetaGameEnv(server.url)
    await env.reset()
    await env.close()
    await env.close()
    assert server.closed["frame"] == 1
    for call in (env.reset(), env.step(HELLO), env.state()):
        with pytest.raises(SessionLost, match="closed"):
            await call


async def test_a_client_that_was_never_used_connects_nowhere(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url):
        pass
    assert not server.paths


async def test_errors_of_the_game_leave_the_session_where_it_was(server: FakeServer) -> None:
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()

        async def fail(*_: object) -> None:
            message = "no"
            raise GameFailed(message)

        exchange, server.game.exchange = server.game.exchange, fail  # type: ignore[method-assign,assignment]
        with pytest.raises(GameFailed):
            await env.step(HELLO)
        server.game.exchange = exchange  # type: ignore[method-assign]
        assert (await env.step(HELLO)).metadata["step"] == 1
