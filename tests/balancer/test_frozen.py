"""A worker is frozen with a request unread, which the balancer gives up; it wakes when the session has gone on.

By then the session has forgotten the request id, so that carried out now the request would count twice.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from metagame.core.remembered import REMEMBERED
from tests.balancer.conftest import Balanced
from tests.balancer.haproxy import balancer
from tests.survival.conftest import Pool
from tests.survival.workers import WAIT_S, until

pytestmark = pytest.mark.anyio
Send = Callable[[str], Awaitable[httpx.Response]]


@pytest.fixture
async def both(pool: Pool, tmp_path: Path) -> AsyncIterator[Balanced]:
    """Two workers whose balancer waits a second for an answer."""
    with balancer(tmp_path, [worker.port for worker in pool.workers], BALANCER_ANSWER_TIMEOUT_S="1") as one:
        balanced = Balanced(one, pool.workers)
        await balanced.all_up()
        yield balanced
        with suppress(ProcessLookupError):
            pool.workers[0].send(signal.SIGCONT)


@pytest.fixture
async def http(both: Balanced) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=both.url, trust_env=False, timeout=WAIT_S) as client:
        yield client


async def frozen_with(both: Balanced, send: Send) -> str:
    """Freeze w1 and send until it has a request in its hands, which the balancer gives up; that one's key."""
    both.workers[0].send(signal.SIGSTOP)
    while True:
        key = str(uuid4())
        if (await send(key)).status_code == 504:
            return key


async def answered(send: Send, key: str) -> httpx.Response:
    """The answer to a request that is sent with its key until there is one, as the balancer's 504 says to."""
    while (answer := await send(key)).status_code != 200:
        assert answer.json()["retryable"] is True
    return answer


async def stands(http: httpx.AsyncClient, path: str) -> Any:
    return (await answered(lambda _key: http.get(f"{path}/state"), "")).json()


async def wakes(both: Balanced) -> None:
    """Return when w1 is awake and has read what was waiting for it."""
    both.workers[0].send(signal.SIGCONT)
    await until(lambda: "w1" in both.balancer.up(), "w1 in rotation again")
    async with httpx.AsyncClient(base_url=both.workers[0].url, trust_env=False, timeout=WAIT_S) as direct:
        assert (await direct.get("/ready")).status_code == 200


async def test_a_step_is_not_taken_twice(both: Balanced, http: httpx.AsyncClient, session_id: str) -> None:
    path = f"/sessions/{session_id}"

    async def step(key: str) -> httpx.Response:
        return await http.post(f"{path}/step", json={"action": {"message": "hi"}}, headers={"Idempotency-Key": key})

    await http.post(f"{path}/reset", json={"episode_id": "one"})
    key = await frozen_with(both, step)
    number = (await answered(step, key)).json()["metadata"]["step"]
    for _ in range(REMEMBERED + 1):
        number += 1
        assert (await answered(step, str(uuid4()))).json()["metadata"]["step"] == number
    await wakes(both)
    assert await stands(http, path) == {"episode_id": "one", "step_count": number}
    assert (await answered(step, str(uuid4()))).json()["metadata"]["step"] == number + 1


async def test_a_reset_does_not_begin_another_episode(both: Balanced, http: httpx.AsyncClient, session_id: str) -> None:
    path = f"/sessions/{session_id}"

    async def reset(key: str) -> httpx.Response:
        return await http.post(f"{path}/reset", json={}, headers={"Idempotency-Key": key})

    await answered(reset, await frozen_with(both, reset))
    for _ in range(REMEMBERED + 1):
        await answered(reset, str(uuid4()))
    before = await stands(http, path)
    await wakes(both)
    assert await stands(http, path) == before


async def test_an_end_does_not_end_the_session_that_was_made_since(
    both: Balanced, http: httpx.AsyncClient, session_id: str
) -> None:
    path = f"/sessions/{session_id}"
    await frozen_with(both, lambda _key: http.delete(path))
    await answered(lambda key: http.post(f"{path}/reset", json={}, headers={"Idempotency-Key": key}), str(uuid4()))
    before = await stands(http, path)
    await wakes(both)
    assert await stands(http, path) == before
