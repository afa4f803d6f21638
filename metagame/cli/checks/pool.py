"""Checks of a pool as a whole: workers that share sessions, many connections at once, sessions that end.

What OpenEnv's own server, which keeps a session in one worker's memory, does not do.
"""

from __future__ import annotations

import asyncio
import time

from metagame.cli.checks.deployment import (
    Deployment,
    by_path,
    by_query,
    check_state,
    check_step,
    step_frame,
    step_number,
)
from metagame.cli.checks.openenv import rpc
from metagame.cli.checks.survival import EPISODE, ONE_POOL, UPDATE, until_closed
from metagame.cli.checks.verdict import SURVIVAL, check, fail, skip

TOGETHER, EACH = 5, 8
"""Connections that step one session at the same time, and how often."""
SHARED_SESSIONS, ROUNDS = 10, 4
ATTACHED = 10
GONE_S = 35.0
"""An anonymous session whose worker died is gone within 30 s; one whose socket closed, at once."""
_POLL_S = 0.1


@check("ready", SURVIVAL, "GET /ready says that requests are welcome", "Ask the balancer to probe /ready.", plays=False)
async def ready(there: Deployment) -> str:
    """What a balancer must ask to roll workers unseen."""
    reply = await there.http("GET", "/ready")
    status = reply.body.get("status") if isinstance(reply.body, dict) else None
    if status == "redis_unavailable":
        fail("the worker's Redis is away", "See whether Redis runs, and METAGAME_REDIS_URL leads there.")
    if status == "draining":
        fail("a worker that is leaving got the request", "Have the balancer ask /ready, and wait for the roll.")
    if reply.status != 200 or status != "ready":
        fail(f"{reply.asked} is answered with HTTP status {reply.status}")
    return ""


@check("create-then-attach", SURVIVAL, "a session made over HTTP is found by every socket", ONE_POOL)
async def create_then_attach(there: Deployment) -> str:
    """OpenEnv's MCPToolClient does it; where each worker has sessions of its own most of these fail."""
    for _ in range(ATTACHED):
        made = await rpc(there, "openenv/session/create", {})
        session_id = (made.get("result") or {}).get("session_id")
        if not isinstance(session_id, str):
            skip(f"openenv/session/create is not served: {(made.get('error') or {}).get('message')}")
        there.ends(session_id)
        async with there.socket(by_query(session_id)) as one:
            await one.state()  # before any reset, which would make the session where it is not
            await one.reset(episode_id=EPISODE)
            await one.step("attached", 1)
        await rpc(there, "openenv/session/close", {"session_id": session_id})
    return f"{ATTACHED} times"


@check("concurrent-steps", SURVIVAL, "steps of one session at the same time are none lost", ONE_POOL, control=True)
async def concurrent_steps(there: Deployment) -> str:
    """The steps of several connections get the numbers 1 to n, each once."""
    path = f"/sessions/{there.new_session()}"
    (await there.http("POST", f"{path}/reset", {"episode_id": EPISODE})).expect(200)

    async def several(which: int) -> list[int | None]:
        numbers = []
        for turn in range(EACH):
            body = {"action": {"message": f"connection {which}, step {turn}"}}
            numbers.append(step_number((await there.http("POST", f"{path}/step", body)).expect(200)))
        return numbers

    found = sorted(number or 0 for one in await asyncio.gather(*map(several, range(TOGETHER))) for number in one)
    due = list(range(1, TOGETHER * EACH + 1))
    if found != due:
        lost, twice = set(due) - set(found), {number for number in found if found.count(number) > 1}
        fail(f"of {len(due)} steps {len(lost)} have no number of their own; {sorted(twice)} were given twice")
    check_state((await there.http("GET", f"{path}/state")).expect(200), EPISODE, TOGETHER * EACH)
    return f"{TOGETHER * EACH} steps of {TOGETHER} connections"


@check("anonymous-ends", SURVIVAL, "an anonymous session ends with its socket", UPDATE)
async def anonymous_ends(there: Deployment) -> str:
    """Nobody comes back to it, and its place is free."""
    async with there.socket() as one:
        await one.reset(episode_id=EPISODE)
        await one.step("anonymous", 1)
        call = {"jsonrpc": "2.0", "id": 1, "method": "openenv/session/create", "params": {}}
        told = await one.ask({"type": "mcp", "data": call})
    async with there.socket() as other:
        state = await other.state()
        if state.get("step_count") != 0 or state.get("episode_id") == EPISODE:
            fail("a new socket stands in the session of one that is gone")
    data = told.get("data") if told.get("type") == "mcp" else None
    session_id = (data.get("result") or {}).get("session_id") if isinstance(data, dict) else None
    if there.production or not isinstance(session_id, str):
        return "a new socket is a new session"
    if not await _is_gone(there, there.ends(session_id)):
        fail(f"the session is still there {GONE_S:g} s after its socket was lost")
    return ""


@check("ended-stays-ended", SURVIVAL, "an ended session is gone for good, on every surface", ONE_POOL)
async def ended_stays_ended(there: Deployment) -> str:
    """No step and no socket brings it back, only a reset or a new making would."""
    session_id = there.new_session()
    if there.production:
        async with there.socket(by_path(session_id)) as one:
            await one.reset(episode_id=EPISODE)
            await one.step("last", 1)
            await one.send({"type": "close"})
            await until_closed(one)
    else:
        path = f"/sessions/{session_id}"
        (await there.http("POST", "/sessions", {"session_id": session_id})).expect(201)
        (await there.http("POST", "/sessions", {"session_id": session_id})).expect(200)
        (await there.http("POST", f"{path}/reset", {})).expect(200)
        for _ in range(2):  # ending it again is no error
            (await there.http("DELETE", path)).expect_status(204)
        (await there.http("GET", path)).expect(404)
        (await there.http("GET", f"{path}/state")).expect(404)
        (await there.http("POST", f"{path}/step", {"action": {"message": "too late"}})).expect(409)
    async with there.socket(by_path(session_id)) as late:
        await late.refused(step_frame("too late"), "SESSION_ERROR")
        await late.refused({"type": "state"}, "SESSION_ERROR")
    return ""


@check("shared-pool", SURVIVAL, "whichever worker a connection meets, it has every session", ONE_POOL)
async def shared_pool(there: Deployment) -> str:
    """Requests of several sessions in turn, each on a new connection, which a balancer gives to any worker."""
    sessions = [there.new_session() for _ in range(SHARED_SESSIONS)]
    for number in range(ROUNDS + 1):
        await asyncio.gather(*(_one_request(there, session_id, number) for session_id in sessions))
    connections = f"{SHARED_SESSIONS} sessions on {SHARED_SESSIONS * (ROUNDS + 1)} connections"
    pool = await there.http("GET", "/pool")
    workers = pool.body.get("workers") if pool.status == 200 and isinstance(pool.body, dict) else None
    if not isinstance(workers, list):
        return connections
    count = sum(isinstance(one, dict) and one.get("state") == "ready" for one in workers)
    return f"{connections}, {count} worker{'' if count == 1 else 's'}"


@check(
    "api-key", SURVIVAL, "who shows no API key is refused", "Set METAGAME_API_KEYS on every worker alike.", plays=False
)
async def api_key(there: Deployment) -> str:
    """Only where this command was given a key."""
    if not there.target.keyed:
        skip("no key was given, and the server asks for none")
    reply = await there.http("GET", "/schema", keyless=True)
    if reply.status == 200:
        skip("the server asks for no key: METAGAME_API_KEYS is not set there")
    if reply.status != 401:
        fail(f"{reply.asked} without a key is answered with HTTP status {reply.status}, not 401")
    return ""


async def _is_gone(there: Deployment, session_id: str) -> bool:
    ends = time.monotonic() + GONE_S
    while (await there.http("GET", f"/sessions/{session_id}/state")).status != 404:
        if time.monotonic() > ends:
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def _one_request(there: Deployment, session_id: str, number: int) -> None:
    """The session's request of this number, 0 being its reset, on a connection of its own."""
    message = f"{session_id} {number}"
    if there.production:
        async with there.socket(by_path(session_id)) as one:
            await (one.step(message, number) if number else one.reset(episode_id=EPISODE))
        return
    path = f"/sessions/{session_id}"
    if number:
        reply = await there.http("POST", f"{path}/step", {"action": {"message": message}})
        check_step(reply.expect(200), message, number)
    else:
        (await there.http("POST", f"{path}/reset", {"episode_id": EPISODE})).expect(200)


CHECKS = (
    ready,
    create_then_attach,
    concurrent_steps,
    anonymous_ends,
    ended_stays_ended,
    shared_pool,
    api_key,
)
