"""A commit whose answer is lost, or that comes too late: the step counts once or not at all."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from tests.survival.conftest import Faulty
from tests.survival.sockets import Socket
from tests.survival.workers import http, until

pytestmark = pytest.mark.anyio
ACTION = {"action": {"message": "abc"}}
WITH_AND_WITHOUT_ID = pytest.mark.parametrize(
    "extra", [{}, {"request_id": "the-second"}], ids=["without a request id", "with one"]
)


@WITH_AND_WITHOUT_ID
async def test_an_answer_cut_off_on_its_way_from_redis_is_fetched_again(
    faulty: Faulty, session_id: str, extra: dict[str, Any]
) -> None:
    async with Socket(faulty.worker, session_id) as socket:
        await socket.reset()
        assert await socket.step() == 1
        faulty.redis.cut_answer("commit")
        assert await socket.step(**extra) == 2
        assert faulty.redis.cuts == 1
        assert await socket.step() == 3
    path = f"/sessions/{session_id}"
    async with http(faulty.worker) as client:
        faulty.redis.cut_answer("commit")
        answer = await client.post(
            f"{path}/step", json=ACTION | extra | ({"request_id": "the-fourth"} if extra else {})
        )
        assert answer.json()["metadata"]["step"] == 4
        assert faulty.redis.cuts == 2
        assert (await client.get(f"{path}/state")).json()["step_count"] == 4


async def test_a_request_with_an_id_whose_outcome_stayed_unknown_may_be_sent_again_and_counts_once(
    faulty: Faulty, session_id: str
) -> None:
    async with Socket(faulty.worker, session_id) as socket, http(faulty.worker) as client:
        await socket.reset()
        assert await socket.step() == 1
        faulty.redis.cut_answer("commit", stay_away=True)
        refused = await socket.ask("step", {"message": "abc"}, request_id="the-second")
        assert (refused["code"], refused["retryable"]) == ("SESSION_ERROR", True)
        over_http = await client.post(f"/sessions/{session_id}/step", json=ACTION | {"request_id": "the-second"})
        assert (over_http.status_code, over_http.json()["retryable"]) == (503, True)
        faulty.redis.come_back()
        assert await socket.step(request_id="the-second") == 2
        again = await client.post(f"/sessions/{session_id}/step", json=ACTION | {"request_id": "the-second"})
        assert again.json()["metadata"]["step"] == 2
        assert await socket.step() == 3


async def test_a_request_without_an_id_whose_outcome_stayed_unknown_is_not_to_be_sent_again(
    faulty: Faulty, session_id: str
) -> None:
    async with Socket(faulty.worker, session_id) as socket:
        await socket.reset()
        assert await socket.step() == 1
        faulty.redis.cut_answer("commit", stay_away=True)
        refused = await socket.ask("step", {"message": "abc"})
        assert (refused["code"], refused["retryable"], refused["outcome"]) == ("SESSION_ERROR", False, "unknown")
        faulty.redis.come_back()
        assert (await socket.stands())[1] == 2
        assert await socket.step() == 3


async def test_a_worker_that_slept_with_a_step_in_its_hands_does_not_take_it_twice(
    faulty: Faulty, session_id: str
) -> None:
    async with Socket(faulty.worker, session_id) as old:
        await old.ask("reset", {"episode_id": "one"})
        assert [await old.step() for _ in range(3)] == [1, 2, 3]
        faulty.redis.hold_calls("commit")
        await old.send("step", {"message": "abc"}, request_id="the-fourth")
        await until(lambda: faulty.redis.held, "the commit")
        faulty.worker.send(signal.SIGSTOP)
        async with Socket(faulty.other, session_id) as new:
            assert await new.stands() == ("one", 3)
            assert await new.step(request_id="the-fourth") == 4
            assert [await new.step() for _ in range(10)] == list(range(5, 15))
            faulty.redis.release()
            faulty.worker.send(signal.SIGCONT)
            told = (await old.receive())["data"]
            assert (told["code"], told["reason"]) == ("SESSION_ERROR", "session_taken_over")
            assert await old.close_code() == 4001
            assert await new.stands() == ("one", 14)
            assert await new.step() == 15


async def test_a_worker_that_slept_with_an_http_step_in_its_hands_does_not_take_it_twice(
    faulty: Faulty, session_id: str
) -> None:
    step = f"/sessions/{session_id}/step"
    the_second = ACTION | {"request_id": "the-second"}
    async with http(faulty.worker) as old, http(faulty.other) as new:
        await old.post(f"/sessions/{session_id}/reset", json={"episode_id": "one"})
        await old.post(step, json=ACTION)
        faulty.redis.hold_calls("commit")
        asked = asyncio.create_task(old.post(step, json=the_second))
        await until(lambda: faulty.redis.held, "the commit")
        faulty.worker.send(signal.SIGSTOP)
        assert (await new.post(step, json=the_second)).json()["metadata"]["step"] == 2
        for number in range(3, 13):
            assert (await new.post(step, json=ACTION)).json()["metadata"]["step"] == number
        faulty.redis.release()
        faulty.worker.send(signal.SIGCONT)
        assert (await asked).status_code == 503
        state = (await new.get(f"/sessions/{session_id}/state")).json()
        assert (state["episode_id"], state["step_count"]) == ("one", 12)
