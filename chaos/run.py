"""One run: the pool up, the load on it, the faults, the sessions' last states, the verdict."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import httpx

from chaos import journal
from chaos.checker import check
from chaos.faults import Faults, Inflicts, OnProcesses
from chaos.hits import SLACK_S, calls_of, impacts, missed_kinds
from chaos.judge import Final
from chaos.load import Load, Peek, Plan, Unread, kinds_of
from chaos.options import Options
from chaos.pool import NotReady, ProcessPool
from chaos.processes import StartFailed
from chaos.records import Stored, Unreadable, read
from chaos.redis_nodes import NotWell
from chaos.report import Report
from chaos.resp import RedisError

FINISH_DEADLINE_S = 150.0
"""After the last fault a client may still wait this long: its own deadline, twice, and a reset."""
TRIES_AGAIN = 3
_STATE_TRIES = 50
_STATE_PAUSE_S = 0.2
_AT_ONCE = 16
_PEEKS_AT_ONCE = 4
_PEEK_DEADLINE_S = 3.0
_UNREADABLE = (OSError, TimeoutError, RedisError, NotReady, NotWell)


class Pool(Protocol):
    """What the run needs of a pool, however it is made."""

    base_url: str

    async def records(self, sessions: list[str]) -> Mapping[str, bytes | None]:
        """The sessions' raw records in Redis."""

    async def forget(self, sessions: list[str]) -> None:
        """End the sessions where the pool outlives the run."""


async def run(options: Options, folder: Path, say: Callable[[str], None]) -> Report:
    """Everything but the printing; raises StartFailed, NotReady or NotWell where the pool does not come up."""
    async with _pool(options, folder, say) as (pool, inflicts):
        loop = asyncio.get_running_loop()
        started_s = loop.time()

        def clock() -> float:
            return loop.time() - started_s

        journals = folder / "journals"
        journals.mkdir()
        kinds = kinds_of(options.clients)
        plan = Plan(options.sessions, kinds, options.steps_per_s, options.seed)
        load = Load(pool.base_url, journals, plan, clock, _peek(pool))
        faults = Faults(inflicts, clock, say)
        trouble = await _under_fault(load, journals, faults, options, clock)
        lasted_s = clock()
        written = _written(journals)
        sessions = sorted({one.session for one in written})
        finals = await _finals(pool, sessions, trouble)
        await pool.forget(sessions)
    return Report(options, lasted_s, written, faults.strikes, check(written, finals), trouble)


@asynccontextmanager
async def _pool(options: Options, folder: Path, say: Callable[[str], None]) -> AsyncIterator[tuple[Pool, Inflicts]]:
    """The pool, and what inflicts faults on it."""
    if options.compose:
        from chaos.compose import ComposePool, OnContainers  # noqa: PLC0415 - processes need no docker

        async with ComposePool(options.workers) as composed:
            say(f"compose project {composed.project} at {composed.base_url}")
            yield composed, OnContainers(composed)
        return
    async with ProcessPool(folder, options.workers, options.mutant) as pool:
        yield pool, OnProcesses(pool)


async def _under_fault(
    load: Load, journals: Path, faults: Faults, options: Options, clock: Callable[[], float]
) -> list[str]:
    """The load while faults happen and until every client is through; what went wrong with the pool itself."""
    trouble = []
    playing = asyncio.ensure_future(load.run())
    try:
        try:
            await faults.run(options.plan)
            await _strike_again(journals, faults, options, clock)
        except* (NotReady, NotWell, StartFailed) as failed:
            trouble += [str(one) for one in failed.exceptions]
        else:
            await asyncio.sleep(max(0.0, options.duration_s - clock()))
        load.finish.set()
        done, _ = await asyncio.wait([playing], timeout=FINISH_DEADLINE_S)
        if done:
            await playing
        else:
            trouble.append(f"some clients were not through {FINISH_DEADLINE_S:g} s after the end")
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
    return trouble


async def _strike_again(folder: Path, faults: Faults, options: Options, clock: Callable[[], float]) -> None:
    """Once more each kind of fault that found nothing in flight: with few calls at a time that is a matter of luck."""
    last = {fault.kind: fault for fault in options.plan}
    for _ in range(TRIES_AGAIN):
        await asyncio.sleep(SLACK_S)  # what the last one holds up shows by then
        begun = [one for one in _written(folder) if one.entries]
        missed = missed_kinds(last, impacts(calls_of(begun), faults.strikes))
        if not missed:
            return
        await faults.run([replace(last[kind], at_s=clock(), after_ms=0.0) for kind in missed])


def _peek(pool: Pool) -> Peek:
    """Reads a few records at once (with containers each is a command); a Redis that hangs holds nobody up for long."""
    limit = asyncio.Semaphore(_PEEKS_AT_ONCE)

    async def peek(session: str) -> Stored | None:
        try:
            async with asyncio.timeout(_PEEK_DEADLINE_S), limit:
                raw = (await pool.records([session]))[session]
            return None if raw is None else read(raw)
        except (*_UNREADABLE, Unreadable) as wrong:
            why = f"{type(wrong).__name__}: {wrong}"
            raise Unread(why) from None

    return peek


def _written(folder: Path) -> list[journal.Journal]:
    return [journal.read(path) for path in sorted(folder.glob("*.jsonl"))]


async def _finals(pool: Pool, sessions: Sequence[str], trouble: list[str]) -> dict[str, Final]:
    try:
        raw = await pool.records(list(sessions))
    except _UNREADABLE as wrong:
        trouble.append(f"Redis cannot be read: {wrong}")
        raw = {}
    limit = asyncio.Semaphore(_AT_ONCE)
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:

        async def one(session: str) -> Final:
            async with limit:
                episode, step = await _state(client, f"{pool.base_url}/sessions/{session}/state")
            return Final(_stored(session, raw.get(session), trouble), episode, step)

        found = await asyncio.gather(*(one(session) for session in sessions))
    return dict(zip(sessions, found, strict=True))


def _stored(session: str, raw: bytes | None, trouble: list[str]) -> Stored | None:
    try:
        return None if raw is None else read(raw)
    except Unreadable as wrong:
        trouble.append(f"session {session}: {wrong}")
        return None


async def _state(client: httpx.AsyncClient, url: str) -> tuple[str | None, int | None]:
    """Episode and step; nothing where there is no such session or no answer."""
    for _ in range(_STATE_TRIES):
        try:
            answer = await client.get(url)
        except httpx.HTTPError:
            answer = None
        if answer is not None and answer.is_success:
            body = answer.json()
            return body["episode_id"], body["step_count"]
        if answer is not None and answer.status_code == httpx.codes.NOT_FOUND:
            break
        await asyncio.sleep(_STATE_PAUSE_S)
    return None, None
