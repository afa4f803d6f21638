"""A request that a worker took to its grave is sent to the other one, and counts once."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from metagame import AsyncMetaGameEnv, MetaGameAction
from tests.balancer.conftest import Balanced
from tests.survival.redis_proxy import RedisProxy
from tests.survival.sockets import Socket
from tests.survival.workers import until

pytestmark = pytest.mark.anyio
SIZES = pytest.mark.parametrize("size", [100, 200_000], ids=["100 B", "200 kB"])
T = TypeVar("T")


def proxy(both: Balanced) -> RedisProxy:
    assert both.redis is not None
    return both.redis


async def killed_with_it(both: Balanced, send: Callable[[], Awaitable[T]]) -> tuple[list[T], T]:
    """Send one after the other until w1 has one in its hands, its commit done, and kill w1; all answers."""
    redis = proxy(both)
    redis.hold_answer("commit")
    redis.hold_answer("create")
    answered: list[T] = []
    while True:
        asked = asyncio.ensure_future(send())
        await until(lambda: redis.held or asked.done(), "the commit or an answer")  # noqa: B023 - awaited in this turn
        if not asked.done():
            break
        answered.append(asked.result())
    before = both.count("wredis")
    await asyncio.to_thread(both.workers[0].kill)
    last = await asked
    assert both.count("wredis") == before + 1
    return answered, last


async def curl(url: str, body: bytes, folder: Path) -> Any:
    """What curl gets for a body, with no header of ours."""
    binary = shutil.which("curl")
    assert binary is not None, "the tests need curl"
    (folder / "body.json").write_bytes(body)
    process = await asyncio.create_subprocess_exec(
        *(binary, "--silent", "--fail-with-body", "--noproxy", "*", "--header", "Content-Type: application/json"),
        *("--data-binary", f"@{folder / 'body.json'}", url),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    return json.loads(out)


@SIZES
async def test_a_step_by_curl_whose_worker_died_after_the_commit_is_answered_and_counted_once(
    faulty_first: Balanced, http: httpx.AsyncClient, session_id: str, tmp_path: Path, size: int
) -> None:
    body = b'{"action":{"message":"abc"},"ignored":"%s"}' % (b"x" * (size - 44))
    path = f"/sessions/{session_id}"
    await http.post(f"{path}/reset", json={"episode_id": "one"})
    answered, last = await killed_with_it(faulty_first, lambda: curl(f"{faulty_first.url}{path}/step", body, tmp_path))
    assert [one["metadata"]["step"] for one in [*answered, last]] == list(range(1, len(answered) + 2))
    state = (await http.get(f"{path}/state")).json()
    assert (state["episode_id"], state["step_count"]) == ("one", len(answered) + 1)


@SIZES
async def test_a_step_of_our_http_client_whose_worker_died_after_the_commit_counts_once(
    faulty_first: Balanced, size: int
) -> None:
    async with AsyncMetaGameEnv(faulty_first.url, transport="http") as env:
        await env.reset(episode_id="one")
        message = "😀" * (size // 4)
        answered, last = await killed_with_it(faulty_first, lambda: env.step(MetaGameAction(message=message)))
        assert [one.metadata["step"] for one in [*answered, last]] == list(range(1, len(answered) + 2))
        assert last.observation.echoed_message == message
        state = await env.state()
        assert (state.episode_id, state.step_count) == ("one", len(answered) + 1)


async def test_the_largest_body_that_workers_take_is_sent_again_too(
    faulty_first: Balanced, http: httpx.AsyncClient, session_id: str, tmp_path: Path
) -> None:
    body = b'{"action":{"message":"abc"},"ignored":"%s"}'
    body %= b"x" * (1_048_576 - len(body) + 2)
    await http.post(f"/sessions/{session_id}/reset")
    answered, last = await killed_with_it(
        faulty_first, lambda: curl(f"{faulty_first.url}/sessions/{session_id}/step", body, tmp_path)
    )
    assert last["metadata"]["step"] == len(answered) + 1


async def test_a_reset_without_a_session_leaves_one_behind_not_two(
    faulty_first: Balanced, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    before = await names(http)
    answered, last = await killed_with_it(faulty_first, lambda: curl(f"{faulty_first.url}/reset", b"{}", tmp_path))
    assert last["observation"]["echoed_message"] == "Meta Game environment ready!"
    assert len(await names(http) - before) == len(answered) + 1


async def test_a_session_made_without_a_name_is_made_once(
    faulty_first: Balanced, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    before = await names(http)
    answered, last = await killed_with_it(faulty_first, lambda: curl(f"{faulty_first.url}/sessions", b"{}", tmp_path))
    made = {one["session_id"] for one in [*answered, last]}
    assert await names(http) - before == made
    assert len(made) == len(answered) + 1


async def test_no_second_session_is_made_by_a_key_that_names_none(
    faulty_first: Balanced, http: httpx.AsyncClient
) -> None:
    """Its worker dies with the session made; a random UUID in place of the key would find it again."""
    both, redis = faulty_first, proxy(faulty_first)
    before = await names(http)
    redis.hold_answer("create")
    answers: list[httpx.Response] = []
    while True:
        asked = asyncio.ensure_future(
            http.post("/sessions", headers={"Idempotency-Key": f"order-{len(answers)}", "Connection": "close"})
        )
        await until(lambda: redis.held or asked.done(), "the session made or an answer")  # noqa: B023 - awaited in this turn
        if not asked.done():
            break
        answers.append(asked.result())
    await asyncio.to_thread(both.workers[0].kill)
    lost = await asked
    assert (lost.status_code, lost.json()["retryable"], lost.json()["outcome"]) == (502, False, "unknown")
    assert {answer.status_code for answer in answers} <= {201}
    assert len(await names(http) - before) == len(answers) + 1


async def test_what_makes_a_session_is_still_taken_to_another_worker_where_one_cannot_be_reached(
    balanced: Balanced, http: httpx.AsyncClient
) -> None:
    await asyncio.to_thread(balanced.workers[0].kill)
    for number in range(8):
        headers = {"Idempotency-Key": f"order-{number}", "Connection": "close"}
        assert (await http.post("/sessions", headers=headers)).status_code == 201
    assert balanced.count("wredis") + balanced.count("wretr") >= 1
    assert balanced.balancer.up() == {"w2"}


async def test_a_step_over_our_socket_whose_worker_died_after_the_commit_counts_once(faulty_first: Balanced) -> None:
    both, redis = faulty_first, proxy(faulty_first)
    # The fewest connections first: each gets a worker of its own.
    async with AsyncMetaGameEnv(both.url) as one, AsyncMetaGameEnv(both.url) as other:
        for env in (one, other):
            await env.reset()
        redis.hold_answer("commit")
        steps = [asyncio.ensure_future(env.step(MetaGameAction(message="abc"))) for env in (one, other)]
        await until(lambda: redis.held and any(step.done() for step in steps), "one answer, and one commit without")
        await asyncio.to_thread(both.workers[0].kill)
        for env, step in zip((one, other), steps, strict=True):
            assert (await step).metadata["step"] == 1
            assert (await env.state()).step_count == 1
            assert (await env.step(MetaGameAction(message="abc"))).metadata["step"] == 2


async def test_a_handshake_whose_worker_dies_is_taken_to_the_other_one(
    faulty_first: Balanced, http: httpx.AsyncClient, session_id: str
) -> None:
    both, redis = faulty_first, proxy(faulty_first)
    await http.post(f"/sessions/{session_id}/reset", json={"episode_id": "one"})
    redis.hold_calls("attach")
    async with AsyncExitStack() as sockets:
        while True:  # each takes the session from the one before; the first at w1 waits for Redis
            opening = asyncio.ensure_future(sockets.enter_async_context(Socket(both.balancer, session_id)))
            await until(lambda: redis.held or opening.done(), "a socket that opens or waits")  # noqa: B023 - awaited in this turn
            if not opening.done():
                break
        await asyncio.to_thread(both.workers[0].kill)
        newest = await opening
        assert await newest.stands() == ("one", 0)
        assert await newest.step() == 1
    assert both.count("wredis") == 1


async def test_connections_that_a_dead_worker_refuses_are_made_to_the_other_one(
    balanced: Balanced, http: httpx.AsyncClient, session_id: str
) -> None:
    await http.post(f"/sessions/{session_id}/reset")
    await asyncio.to_thread(balanced.workers[0].kill)
    async with httpx.AsyncClient(base_url=balanced.url, trust_env=False, headers={"Connection": "close"}) as new:
        for number in range(1, 9):
            answer = await new.post(f"/sessions/{session_id}/step", json={"action": {"message": "abc"}})
            assert answer.json()["metadata"]["step"] == number
    async with Socket(balanced.balancer, session_id) as socket:
        assert await socket.step() == 9
    assert balanced.count("wredis") + balanced.count("wretr") >= 1
    assert balanced.balancer.up() == {"w2"}


async def names(http: httpx.AsyncClient) -> set[str]:
    return {item["session_id"] for item in (await http.get("/sessions?limit=1000")).json()["sessions"]}
