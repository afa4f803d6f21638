"""Errors that the balancer makes itself: JSON in the workers' form, and no claim that is not so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from metagame import AsyncMetaGameEnv, MetaGameAction, Unavailable
from metagame.wire.answers import error_of_body
from tests.balancer.conftest import Balanced
from tests.balancer.haproxy import balancer
from tests.balancer.recorder import recorder
from tests.survival.conftest import Faulty, Pool
from tests.survival.sockets import Socket
from tests.survival.workers import WAIT_S, running, until

pytestmark = pytest.mark.anyio
STEP = {"action": {"message": "abc"}}


def said(answer: httpx.Response) -> dict[str, Any]:
    """What an error says of sending again; it is one of ours, and readable."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["retry-after"] == "1"
    error = error_of_body(answer.content)
    assert type(error) is Unavailable
    assert answer.json()["code"] == "SESSION_ERROR"
    return {"nothing done": "nothing was done" in error.message} | {
        field: error.fields.get(field) for field in ("retryable", "outcome")
    }


NOTHING_DONE = {"nothing done": True, "retryable": True, "outcome": None}
UNKNOWN = {"nothing done": False, "retryable": False, "outcome": "unknown"}
UNKNOWN_BUT_REPEATABLE = {"nothing done": False, "retryable": True, "outcome": "unknown"}
HARMLESS = {"nothing done": False, "retryable": True, "outcome": None}


async def test_without_a_ready_worker_nothing_is_done_and_it_says_so(
    balanced: Balanced, http: httpx.AsyncClient, session_id: str
) -> None:
    for worker in balanced.workers:
        await asyncio.to_thread(worker.kill)
    await until(lambda: not balanced.balancer.up(), "both out of rotation")
    assert not balanced.balancer.ready()
    for method, path in (("POST", "/reset"), ("POST", f"/sessions/{session_id}/step"), ("GET", "/state")):
        answer = await http.request(method, path, json=STEP)
        assert (answer.status_code, said(answer)) == (503, NOTHING_DONE)
    env = AsyncMetaGameEnv(balanced.url)
    waiting = asyncio.ensure_future(env.reset())
    await running(*balanced.workers)
    await waiting
    await env.close()
    assert balanced.balancer.ready()


async def test_workers_without_redis_are_not_ready_and_their_sockets_stay_open(
    faulty: Faulty, tmp_path: Path, session_id: str
) -> None:
    with balancer(tmp_path, [faulty.worker.port]) as one:
        await until(one.up, "the worker in rotation")
        async with (
            httpx.AsyncClient(base_url=one.url, trust_env=False, timeout=WAIT_S) as client,
            Socket(one, session_id) as socket,
        ):
            await socket.reset()
            faulty.redis.cut_answer("commit", stay_away=True)
            refused = await socket.ask("step", {"message": "abc"}, request_id="the-first")
            assert refused["retryable"] is True
            await until(lambda: not one.up(), "the worker out of rotation")
            answer = await client.post(f"/sessions/{session_id}/step", json=STEP)
            assert (answer.status_code, said(answer)) == (503, NOTHING_DONE)
            faulty.redis.come_back()
            await until(one.up, "the worker in rotation again")
            assert await socket.step(request_id="the-first") == 1


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("POST", {}, UNKNOWN),
        ("POST", {"Idempotency-Key": "1"}, UNKNOWN_BUT_REPEATABLE),
        ("DELETE", {}, UNKNOWN_BUT_REPEATABLE),
        ("GET", {}, HARMLESS),
    ],
    ids=["a step", "a step with a key", "an end", "a read"],
)
async def test_what_workers_took_and_never_answered_may_have_counted(
    tmp_path: Path, method: str, headers: dict[str, str], expected: dict[str, Any]
) -> None:
    async with recorder() as worker:
        worker.hang_ups = 1000
        context = balancer(tmp_path, [worker.port])
        one = await asyncio.to_thread(context.__enter__)
        async with httpx.AsyncClient(base_url=one.url, trust_env=False, timeout=WAIT_S) as client:
            answer = await client.request(method, "/sessions/a", headers=headers)
        context.__exit__(None, None, None)
        assert len(worker.requests) > 1
        assert answer.status_code == 502
        assert said(answer) == expected


RANDOM = "7b0c9d2e-1b7f-4f0e-9d3a-2c4f5a6b7c8d"
TIME_BASED = "7b0c9d2e-1b7f-1f0e-9d3a-2c4f5a6b7c8d"
ANOTHER = (1, UNKNOWN)
"""How often workers got it, and what the client is told: sent again, it would make another session."""
ONCE = (6, UNKNOWN_BUT_REPEATABLE)
MAKING: dict[str, tuple[str, dict[str, str], tuple[int, dict[str, Any]]]] = {
    "a reset": ("/reset", {"Idempotency-Key": "order-17"}, ANOTHER),
    "a session": ("/sessions", {"Idempotency-Key": "order-17"}, ANOTHER),
    "a UUID that is not random": ("/sessions", {"Idempotency-Key": TIME_BASED}, ANOTHER),
    "a UUID and more": ("/reset", {"Idempotency-Key": f"{RANDOM}-1"}, ANOTHER),
    "a root path": ("/envs/metagame/reset", {"Idempotency-Key": "1"}, ANOTHER),
    "a session under a root path": ("/metagame/sessions", {"Idempotency-Key": "1"}, ANOTHER),
    "the page's": ("/web/reset", {"Idempotency-Key": "1"}, ANOTHER),
    "the page's under a root path": ("/metagame/web/reset", {"Idempotency-Key": "1"}, ANOTHER),
    "the page's with the cookie": ("/web/reset", {"Idempotency-Key": "1", "Cookie": "metagame_session=mine"}, ONCE),
    "the page's with a random key": ("/web/reset", {"Idempotency-Key": RANDOM}, ONCE),
    "the page's with the balancer's key": ("/web/reset", {}, (6, UNKNOWN)),
    "a step of the page's": ("/web/step", {"Idempotency-Key": "1"}, ONCE),
    "encoded": ("/%72eset", {"Idempotency-Key": "1"}, ANOTHER),
    "a session is not named by the header": ("/sessions", {"Idempotency-Key": "1", "X-Session-ID": "mine"}, ANOTHER),
    "empty names": ("/reset?session_id=&a=b", {"Idempotency-Key": "1", "X-Session-ID": "", "Cookie": "a=b"}, ANOTHER),
    "another parameter": ("/reset?my_session_id=mine", {"Idempotency-Key": "1"}, ANOTHER),
    "a random key": ("/reset", {"Idempotency-Key": RANDOM}, ONCE),
    "a random key in capitals": ("/sessions", {"Idempotency-Key": RANDOM.upper()}, ONCE),
    "the balancer's key": ("/reset", {}, (6, UNKNOWN)),
    "named by path": ("/sessions/mine/reset", {"Idempotency-Key": "1"}, ONCE),
    "named by path under a root path": ("/metagame/sessions/mine/reset", {"Idempotency-Key": "1"}, ONCE),
    "named by the header": ("/reset", {"Idempotency-Key": "1", "X-Session-ID": "mine"}, ONCE),
    "named by the query": ("/reset?a=b&session_id=mine", {"Idempotency-Key": "1"}, ONCE),
    "named by the cookie": ("/reset", {"Idempotency-Key": "1", "Cookie": "a=b; metagame_session=mine"}, ONCE),
    "a step": ("/step", {"Idempotency-Key": "1"}, ONCE),
    "an agent's call": ("/mcp", {"Idempotency-Key": "1"}, ANOTHER),
    "an agent's call under a root path": ("/metagame/mcp", {"Idempotency-Key": "1"}, ANOTHER),
    "an agent has no cookie": ("/mcp", {"Idempotency-Key": "1", "Cookie": "metagame_session=mine"}, ANOTHER),
    "an agent's call with a random key": ("/mcp", {"Idempotency-Key": RANDOM}, ONCE),
    "an agent's call named by path": ("/sessions/mine/mcp", {"Idempotency-Key": "1"}, ONCE),
    "an agent's call named by the header": ("/mcp", {"Idempotency-Key": "1", "X-Session-ID": "mine"}, ONCE),
    "an agent's call named by MCP's header": ("/mcp", {"Idempotency-Key": "1", "Mcp-Session-Id": "mine"}, ONCE),
    "an agent's call named by the query": ("/mcp?session_id=mine", {"Idempotency-Key": "1"}, ONCE),
}


@pytest.mark.parametrize("case", MAKING)
async def test_what_would_make_another_session_is_not_sent_again_and_says_so(tmp_path: Path, case: str) -> None:
    path, headers, expected = MAKING[case]
    async with recorder() as worker:
        worker.hang_ups = 1000
        context = balancer(tmp_path, [worker.port])
        one = await asyncio.to_thread(context.__enter__)
        async with httpx.AsyncClient(base_url=one.url, trust_env=False, timeout=WAIT_S) as client:
            answer = await client.post(path, headers=headers)
        context.__exit__(None, None, None)
    assert answer.status_code == 502
    assert (len(worker.requests), said(answer)) == expected


async def test_on_a_connection_that_had_an_answer_a_lost_worker_shows_as_a_connection_that_closes(
    tmp_path: Path,
) -> None:
    async with recorder() as worker:
        context = balancer(tmp_path, [worker.port])
        one = await asyncio.to_thread(context.__enter__)
        async with httpx.AsyncClient(base_url=one.url, trust_env=False, timeout=WAIT_S) as client:
            assert (await client.get("/state")).status_code == 200
            worker.hang_ups = 1
            with pytest.raises(httpx.RemoteProtocolError, match="disconnected without sending a response"):
                await client.post("/sessions", headers={"Idempotency-Key": "order-17"})
            assert (await client.get("/state")).status_code == 200
        context.__exit__(None, None, None)
    assert [head.split()[0] for head in worker.requests] == ["GET", "POST", "GET"]


async def test_a_worker_that_takes_too_long_may_still_carry_it_out_so_nobody_else_is_asked(
    faulty: Faulty, tmp_path: Path, session_id: str
) -> None:
    with balancer(tmp_path, [faulty.worker.port], BALANCER_ANSWER_TIMEOUT_S="1") as one:
        await until(one.up, "the worker in rotation")
        async with httpx.AsyncClient(base_url=one.url, trust_env=False, timeout=WAIT_S) as client:
            await client.post(f"/sessions/{session_id}/reset")
            faulty.redis.hold_answer("commit")
            late = await client.post(f"/sessions/{session_id}/step", json=STEP)
            assert (late.status_code, said(late)) == (504, UNKNOWN)
            assert one.stats()["w1"]["wretr"] == one.stats()["w1"]["wredis"] == "0"
            faulty.redis.release()
            await until(one.up, "the worker in rotation again")
            assert (await client.get(f"/sessions/{session_id}/state")).json()["step_count"] == 1


async def test_our_client_goes_on_where_the_balancer_gave_up(faulty: Faulty, tmp_path: Path) -> None:
    with balancer(tmp_path, [faulty.worker.port], BALANCER_ANSWER_TIMEOUT_S="1") as one:
        await until(one.up, "the worker in rotation")
        async with AsyncMetaGameEnv(one.url, transport="http") as env:
            await env.reset()
            faulty.redis.hold_answer("commit")
            stepping = asyncio.ensure_future(env.step(MetaGameAction(message="abc")))
            await until(lambda: one.stats()["w1"]["hrsp_5xx"] != "0" or one.stats()["w1"]["eresp"] != "0", "a 504")
            faulty.redis.release()
            assert (await stepping).metadata["step"] == 1
            assert (await env.state()).step_count == 1


async def test_a_request_that_never_arrives_whole_is_not_passed_on(pool: Pool, tmp_path: Path) -> None:
    ports = [worker.port for worker in pool.workers]
    with balancer(tmp_path, ports, BALANCER_REQUEST_TIMEOUT_S="1") as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        writer.write(b"POST /reset HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"application/json" in head
        error = error_of_body(body)
        assert (type(error), error.retryable) == (Unavailable, True)
        assert "nothing was done" in error.message
        assert sum(int(row["stot"]) for row in one.stats().values()) == 0


async def test_a_body_that_is_too_large_is_the_workers_to_refuse(
    balanced: Balanced, http: httpx.AsyncClient, session_id: str
) -> None:
    for size in (1_048_577, 3_000_000):
        answer = await http.post(
            f"/sessions/{session_id}/reset", content=b" " * size, headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.json()["limit_bytes"]) == (413, 1_048_576)
