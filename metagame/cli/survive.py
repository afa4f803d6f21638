"""`metagame check --survive`: episodes through our client for a while, whatever is done to the servers meanwhile.

Several sockets and several HTTP clients step without a rest; each writes down every answer. In the end every
acknowledged step must be there, in order, exactly once, by the client's own answers and as another connection sees it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from rich.console import Console

from metagame.cli import report
from metagame.cli.checks.deployment import Deployment, Reply, check_state
from metagame.cli.checks.verdict import OF_ANOTHER, SURVIVAL, Failed, Verdict
from metagame.cli.episodes import Noted, Transcript, begin, finish, take_step
from metagame.client.environment import AsyncMetaGameEnv
from metagame.client.http import HttpTransport
from metagame.client.transport import Transport
from metagame.client.websocket import AWAY_STATUSES, WebSocketTransport
from metagame.errors import MetaGameError

SOCKETS, HTTP_CLIENTS = 8, 4
STEPS = 200
"""Steps of an episode; then the client starts the next in the same session."""
PACE_S = 0.05
"""Between an answer and the next step: this is a check and no load."""
DEADLINE_S = 120.0
"""How long the servers may be away altogether."""
_TOLD_EVERY_S = 5.0
_LIVE_S = 0.2
_ERRORS_KEPT = 20
_REMEDY = (
    "If nobody was there for two minutes, break less at once. Else keep the logs of workers and Redis, and see what"
    " this Redis may lose: an AOF with appendfsync always loses nothing."
)


@dataclass(slots=True)
class Survival:
    """What became of the episodes; times in seconds."""

    seconds: float = 0.0
    clients: int = 0
    episodes: int = 0
    steps: int = 0
    """Acknowledged steps."""
    reconnects: int = 0
    retried_answers: int = 0
    """Answers that said to try again, after which the client did."""
    longest_gap_s: float = 0.0
    """From sending a step to its answer, across all that was broken in between."""
    lost: int = 0
    repeated: int = 0
    errors: list[str] = field(default_factory=list)

    def verdict(self, *, ours: bool) -> Verdict:
        """As a check among the others; `ours`: the server is Metagame."""
        told = (
            f"{self.steps:,} steps in {self.episodes:,} episodes of {self.clients} clients: {self.lost} lost,"
            f" {self.repeated} repeated; {self.reconnects} reconnects, longest gap {report.in_time(self.longest_gap_s)}"
        )
        if not self.errors and not self.lost and not self.repeated:
            return Verdict("survive", SURVIVAL, "pass", told)
        first = f". {len(self.errors)} errors, the first: {self.errors[0]}" if self.errors else ""
        return Verdict("survive", SURVIVAL, "fail", f"{told}{first}", _REMEDY if ours else OF_ANOTHER[SURVIVAL])


async def survive(there: Deployment, seconds: float, console: Console) -> Survival:
    """Play for so long, then check every episode."""
    transcripts: list[Transcript] = []
    began = time.monotonic()
    until = began + seconds
    makers = [_websocket] * SOCKETS + ([] if there.production else [_http] * HTTP_CLIENTS)
    async with _told(console, transcripts, began, seconds):
        await asyncio.gather(
            *(_play(there, maker(there), number, until, transcripts) for number, maker in enumerate(makers, 1))
        )
    found = _found(transcripts)
    found.seconds, found.clients = round(time.monotonic() - began, 3), len(makers)
    return found


def _websocket(there: Deployment) -> Transport:
    return WebSocketTransport(there.target.address, headers=there.target.headers)


def _http(there: Deployment) -> Transport:
    return HttpTransport(there.target.address, headers=there.target.headers)


async def _play(
    there: Deployment, transport: Transport, client: int, until: float, transcripts: list[Transcript]
) -> None:
    """One client's episodes; an error ends it."""
    episode = 0
    noted = Noted(transport, Transcript(client))
    try:
        async with AsyncMetaGameEnv(there.url, transport=noted, deadline_s=DEADLINE_S) as env:
            there.names(env.session_id)
            while episode == 0 or time.monotonic() < until:
                episode += 1
                # A seed and an alphabet of messages of its own for each episode, so that a swapped answer shows.
                noted.transcript = Transcript(client * 100_000 + episode)
                transcripts.append(noted.transcript)
                await _episode(there, env, noted.transcript, until)
    except MetaGameError as error:
        noted.transcript.wrong.append(f"{type(error).__name__}: {error}")
    except Failed as wrong:
        noted.transcript.wrong.append(str(wrong))
    finally:
        await noted.close()


async def _episode(there: Deployment, env: AsyncMetaGameEnv, transcript: Transcript, until: float) -> None:
    await begin(env, transcript)
    there.ends(env.session_id)
    for number in range(1, STEPS + 1):
        await take_step(env, transcript, number)
        if time.monotonic() >= until:
            break
        await asyncio.sleep(PACE_S)
    await finish(env, transcript)
    if not there.production:
        elsewhere = await _seen_elsewhere(there, env.session_id)
        check_state(elsewhere.expect(200), transcript.episode_id, len(transcript.answered))


async def _seen_elsewhere(there: Deployment, session_id: str) -> Reply:
    """The session's state on a connection of its own, asked for until somebody answers."""
    ends = time.monotonic() + DEADLINE_S
    while True:
        try:
            reply = await there.http("GET", f"/sessions/{session_id}/state")
        except Failed:
            if time.monotonic() > ends:
                raise
        else:
            if reply.status not in AWAY_STATUSES or time.monotonic() > ends:
                return reply
        await asyncio.sleep(_LIVE_S)


def _found(transcripts: list[Transcript]) -> Survival:
    # An id is a key to its session: it has no business in a report.
    errors = [re.sub(r"/sessions/[^/\s]+", "/sessions/{id}", text) for one in transcripts for text in one.wrong]
    return Survival(
        episodes=len(transcripts),
        steps=sum(len(one.answered) for one in transcripts),
        reconnects=sum(one.connections_lost for one in transcripts),
        retried_answers=sum(one.refused for one in transcripts),
        longest_gap_s=round(max((gap for one in transcripts for gap in one.latencies_ms), default=0.0) / 1000, 3),
        lost=sum(one.lost for one in transcripts),
        repeated=sum(one.repeated for one in transcripts),
        errors=errors[:_ERRORS_KEPT],
    )


@asynccontextmanager
async def _told(console: Console, transcripts: list[Transcript], began: float, seconds: float) -> AsyncIterator[None]:
    """Says how it goes while the block runs: in one line on a terminal, a line now and then elsewhere."""

    def line() -> str:
        found = _found(transcripts)
        return (
            f"survive, {time.monotonic() - began:.0f} of {seconds:g} s: {found.steps:,} steps,"
            f" {found.reconnects} reconnects, longest gap {report.in_time(found.longest_gap_s)}"
        )

    async def keep_telling() -> None:
        with report.busy(console, line()) as update:
            while True:
                await asyncio.sleep(_LIVE_S if console.is_terminal else _TOLD_EVERY_S)
                update(line())

    task = asyncio.ensure_future(keep_telling())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
