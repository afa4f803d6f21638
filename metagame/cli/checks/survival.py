"""Checks of Metagame's own promises: a session outlives sockets and workers, and a request happens once.

OpenEnv's own server keeps none of them, and fails here.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from uuid import uuid4

from metagame.cli.checks.deployment import (
    Closed,
    Deployment,
    Socket,
    by_path,
    by_query,
    check_state,
    check_step,
    data_of,
    step_frame,
)
from metagame.cli.checks.verdict import SURVIVAL, Failed, check, fail

EPISODE = "metagame-check"
STEPS = 3
TOLD_S = 12.0
"""A socket that was taken over hears of it within 8 s."""

NOT_OURS = "The server keeps no sessions beyond a socket. Serve the environment with Metagame: metagame serve."
ONE_POOL = (
    "Give all workers the same METAGAME_REDIS_URL; see that no proxy or client library in between sends a request again"
    " under another id, and update all workers to one release."
)
_ALLOWED = (
    "Unset METAGAME_STEP_BEFORE_RESET there, unless programs need it that never reset: a lost session of an anonymous"
    " socket then goes on from step 1 without a word."
)
UPDATE = "Update the server: this release of the command knows a promise that the server does not keep."


@check("http-by-header", SURVIVAL, "HTTP keeps the session that X-Session-ID names", NOT_OURS, control=True)
async def http_by_header(there: Deployment) -> str:
    """Reset, two steps and state, each on a connection of its own."""
    return await _http_episode(there, "", {"X-Session-ID": there.new_session()})


@check("http-by-path", SURVIVAL, "HTTP keeps the session that the path names", NOT_OURS, control=True)
async def http_by_path(there: Deployment) -> str:
    """The same under /sessions/{id}."""
    return await _http_episode(there, f"/sessions/{there.new_session()}", {})


@check("loud-loss", SURVIVAL, "a step without an episode is refused, so that a lost session is loud", NOT_OURS)
async def loud_loss(there: Deployment) -> str:
    """A client that came back to a fresh session must be told, not given another episode."""
    for which, path, todo in (("named", by_path(there.new_session()), None), ("anonymous", "/ws", _ALLOWED)):
        async with there.socket(path) as one:
            try:
                await one.refused(step_frame("no episode"), "SESSION_ERROR")
            except Failed as wrong:
                fail(f"on {which} sockets: {wrong}", todo)
    return ""


@check("resume-by-path", SURVIVAL, "after a lost socket /sessions/{id}/ws goes on at the next step", NOT_OURS)
async def resume_by_path(there: Deployment) -> str:
    """The connection is cut, not closed."""
    return await _resume(there, by_path(there.new_session()))


@check("resume-by-query", SURVIVAL, "after a lost socket /ws?session_id= goes on at the next step", NOT_OURS)
async def resume_by_query(there: Deployment) -> str:
    """The same by OpenEnv's own way to name a session."""
    return await _resume(there, by_query(there.new_session()))


@check("sent-again", SURVIVAL, "a request id sent twice gets the recorded answer, and counts once", ONE_POOL)
async def sent_again(there: Deployment) -> str:
    """On another connection, as after a lost answer; over HTTP too, where that is there."""
    session_id, request_id = there.new_session(), uuid4().hex
    async with there.socket(by_path(session_id)) as one:
        await one.reset(episode_id=EPISODE)
        first = await one.step("once", 1, request_id=request_id)
    async with there.socket(by_path(session_id)) as other:
        again = await other.step("once", 1, request_id=request_id)
        if again != first:
            fail("the answer to the request sent again is not the recorded one")
        check_state(await other.state(), EPISODE, 1)
    if there.production:
        return "on two sockets"
    body = {"action": {"message": "once"}, "request_id": request_id}
    check_step((await there.http("POST", f"/sessions/{session_id}/step", body)).expect(200), "once", 1)
    check_state((await there.http("GET", f"/sessions/{session_id}/state")).expect(200), EPISODE, 1)
    return "on two sockets, then over HTTP"


@check("request-conflict", SURVIVAL, "a request id with another command is a conflict, and counts nothing", UPDATE)
async def request_conflict(there: Deployment) -> str:
    """A program that counts its requests from 1 must not get another's answers."""
    request_id = uuid4().hex
    async with there.socket(by_path(there.new_session())) as one:
        await one.reset(episode_id=EPISODE)
        await one.step("first", 1, request_id=request_id)
        await one.refused(step_frame("second", request_id=request_id), "VALIDATION_ERROR")
        check_state(await one.state(), EPISODE, 1)
    return ""


@check("expect", SURVIVAL, "`expect` refuses a client that is not where the session stands", UPDATE)
async def expect(there: Deployment) -> str:
    """A late duplicate and another's episode."""
    async with there.socket(by_path(there.new_session())) as one:
        await one.reset(episode_id=EPISODE)
        here = {"episode_id": EPISODE, "step_count": 0}
        await one.step("expected", 1, expect=here)
        for stale in (here, {"episode_id": "another", "step_count": 1}):
            await one.refused(step_frame("stale", expect=stale), "SESSION_ERROR")
        check_state(await one.state(), EPISODE, 1)
    return ""


@check("take-over", SURVIVAL, "a newer socket takes the session, and the older is told (4001)", UPDATE)
async def take_over(there: Deployment) -> str:
    """What the older socket sends after that counts nothing."""
    path = by_path(there.new_session())
    async with there.socket(path) as older:
        await older.reset(episode_id=EPISODE)
        await older.step("older", 1)
        async with there.socket(path) as newer:
            await newer.step("newer", 2)
            code = await _told_and_closed(older)
            if code != 4001:
                fail(f"the older socket is closed with {code}, not 4001")
            check_state(await newer.state(), EPISODE, 2)
    return ""


async def _http_episode(there: Deployment, prefix: str, headers: dict[str, str]) -> str:
    reset = await there.http("POST", f"{prefix}/reset", {"seed": 7, "episode_id": EPISODE}, headers=headers)
    reset.expect(200)
    for number in (1, 2):
        message = f"step {number}"
        reply = await there.http("POST", f"{prefix}/step", {"action": {"message": message}}, headers=headers)
        check_step(reply.expect(200), message, number)
    check_state((await there.http("GET", f"{prefix}/state", headers=headers)).expect(200), EPISODE, 2)
    return ""


async def _resume(there: Deployment, path: str) -> str:
    async with there.socket(path) as one:
        await one.reset(episode_id=EPISODE)
        for number in range(1, STEPS + 1):
            await one.step(f"before {number}", number)
    async with there.socket(path) as other:
        check_state(await other.state(), EPISODE, STEPS)
        await other.step("after", STEPS + 1)
    return ""


async def _told_and_closed(socket: Socket) -> int | None:
    """The code that a socket is closed with that has lost its session, and was told so."""
    try:
        async with asyncio.timeout(TOLD_S):
            with suppress(Closed):  # what it was told before, it can still read
                await socket.send(step_frame("lost"))
            told = data_of(await socket.receive(), "error")
            if told.get("code") != "SESSION_ERROR":
                fail(f"the older socket is told {told.get('code')}, not SESSION_ERROR")
            return await until_closed(socket)
    except TimeoutError:
        fail(f"the older socket hears nothing for {TOLD_S:g} s")


async def until_closed(socket: Socket) -> int | None:
    """The code that the socket is closed with."""
    try:
        while True:
            await socket.receive()
    except Closed as closed:
        return closed.code


CHECKS = (
    http_by_header,
    http_by_path,
    loud_loss,
    resume_by_path,
    resume_by_query,
    sent_again,
    request_conflict,
    expect,
    take_over,
)
