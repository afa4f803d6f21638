"""Many episodes at once through the asynchronous client, each written down and checked.

A transcript is the client's own record: what it sent and what it was answered. The verdict
comes from transcripts alone, so it holds whatever the server believes of itself.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from metagame.client.environment import AsyncMetaGameEnv
from metagame.client.transport import ConnectionLost, Transport, parse_base_url
from metagame.client.websocket import WebSocketTransport
from metagame.errors import MetaGameError, Unavailable
from metagame.models import MetaGameAction, MetaGameObservation, StepResult
from metagame.wire.answers import Answer
from metagame.wire.requests import Request

_PARALLEL_CONNECTS = 256
_ALPHABET = "abc déf ghi 😀 "


@dataclass(slots=True)
class Transcript:
    """One session as its client saw it; `answered` are the step numbers in the order received."""

    episode: int
    answered: list[int] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    final_step_count: int | None = None
    episode_id: str | None = None
    connections_lost: int = 0
    refused: int = 0
    """Answers that said to try again later."""
    wrong: list[str] = field(default_factory=list)
    """What a check found, and the error that ended the episode early."""

    @property
    def lost(self) -> int:
        """Steps answered that the episode does not hold."""
        if self.final_step_count is None:
            return 0
        return len(self.answered) - len({step for step in self.answered if 1 <= step <= self.final_step_count})

    @property
    def repeated(self) -> int:
        """Steps the episode holds that no answer accounts for."""
        if self.final_step_count is None:
            return 0
        return self.final_step_count - len({step for step in self.answered if 1 <= step <= self.final_step_count})


class Noted:
    """A transport that notes in its transcript when an attempt failed; the client then resumes."""

    def __init__(self, inner: Transport, transcript: Transcript) -> None:
        self._inner = inner
        self.transcript = transcript

    async def exchange(self, session_id: str, request: Request) -> Answer | None:
        """As the transport does it."""
        try:
            return await self._inner.exchange(session_id, request)
        except ConnectionLost:
            self.transcript.connections_lost += 1
            raise
        except Unavailable:
            self.transcript.refused += 1
            raise

    async def close(self) -> None:
        """As the transport does it."""
        await self._inner.close()


class Progress:
    """Counts finished steps, for whoever shows them and for the crash that waits for half of them."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.half_way = asyncio.Event()
        self.finished = asyncio.Event()
        """Set when no further step will come, be it that all are done."""

    def step(self) -> None:
        """One more step is answered."""
        self.done += 1
        if self.done * 2 >= self.total:
            self.half_way.set()


@dataclass(frozen=True, slots=True)
class Report:
    """What a run of episodes came to; `errors` holds what was wrong, at most a few of each run's words."""

    episodes: int
    steps: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: list[str]
    lost: int
    repeated: int
    dropped: int
    """Episodes whose connection was lost on the way."""
    resumed: int
    """Those among them that were played to their end all the same."""

    @property
    def steps_per_s(self) -> float:
        """Answered steps by wall time, from the first reset to the last state."""
        return self.steps / self.seconds if self.seconds else 0.0


async def run(
    base_url: str, *, episodes: int, steps: int, progress: Progress, headers: Mapping[str, str] | None = None
) -> Report:
    """Run all episodes at once and check every reward, length, echo and step number."""
    transcripts = [Transcript(number) for number in range(1, episodes + 1)]
    connecting = asyncio.Semaphore(_PARALLEL_CONNECTS)
    address, _ = parse_base_url(base_url)
    started = time.perf_counter()
    try:
        await asyncio.gather(
            *(
                _play(WebSocketTransport(address, headers=headers), one, steps, progress, connecting)
                for one in transcripts
            )
        )
    finally:
        progress.finished.set()
    return _report(transcripts, steps, time.perf_counter() - started)


async def _play(
    transport: Transport, transcript: Transcript, steps: int, progress: Progress, connecting: asyncio.Semaphore
) -> None:
    noted = Noted(transport, transcript)
    try:
        async with AsyncMetaGameEnv(transport=noted) as env:
            async with connecting:
                await begin(env, transcript)
            for number in range(1, steps + 1):
                await take_step(env, transcript, number)
                progress.step()
            await finish(env, transcript)
    except MetaGameError as error:
        transcript.wrong.append(f"{type(error).__name__}: {error}")
    finally:
        await noted.close()


async def begin(env: AsyncMetaGameEnv, transcript: Transcript) -> None:
    """Start the episode."""
    _check(transcript, "reset", await env.reset(seed=transcript.episode), None, 0)
    transcript.episode_id = (await env.state()).episode_id


async def take_step(env: AsyncMetaGameEnv, transcript: Transcript, number: int) -> None:
    """Take the episode's step of this number."""
    message = _message(transcript.episode, number)
    before = time.perf_counter()
    result = await env.step(MetaGameAction(message=message))
    transcript.latencies_ms.append((time.perf_counter() - before) * 1000)
    transcript.answered.append(int(result.metadata.get("step", 0)))
    _check(transcript, f"step {number}", result, message, number)


async def finish(env: AsyncMetaGameEnv, transcript: Transcript) -> None:
    """Ask where the session stands: in the same episode, at the last step that was answered."""
    state = await env.state()
    transcript.final_step_count = state.step_count
    if state.episode_id != transcript.episode_id:
        transcript.wrong.append("another episode took this one's place")
    if state.step_count != len(transcript.answered):
        transcript.wrong.append(f"step_count is {state.step_count} after {len(transcript.answered)} steps")


def _check(
    transcript: Transcript, what: str, result: StepResult[MetaGameObservation], message: str | None, number: int
) -> None:
    seen = result.observation
    expected = (0, 0.0) if message is None else (len(message), len(message) / 10)
    if (seen.message_length, result.reward) != expected:
        found = (seen.message_length, result.reward)
        transcript.wrong.append(f"{what}: length and reward are {found}, not {expected}")
    if message is not None and seen.echoed_message != message:
        transcript.wrong.append(f"{what}: the echo is not what was sent")
    if message is not None and result.metadata.get("step") != number:
        transcript.wrong.append(f"{what}: answered as step {result.metadata.get('step')}")
    if result.done:
        transcript.wrong.append(f"{what}: the episode ended")


def _message(episode: int, step: int) -> str:
    """Different in every step of every episode, so that a swapped answer shows; of many lengths."""
    return f"{episode}.{step} " + _ALPHABET[: (episode * 7 + step) % (len(_ALPHABET) + 1)]


def _report(transcripts: list[Transcript], steps: int, seconds: float) -> Report:
    latencies = sorted(latency for one in transcripts for latency in one.latencies_ms)
    return Report(
        episodes=sum(len(one.answered) == steps for one in transcripts),
        steps=len(latencies),
        seconds=seconds,
        p50_ms=statistics.median(latencies) if latencies else 0.0,
        p99_ms=latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)] if latencies else 0.0,
        errors=[f"episode {one.episode}: {text}" for one in transcripts for text in one.wrong],
        lost=sum(one.lost for one in transcripts),
        repeated=sum(one.repeated for one in transcripts),
        dropped=sum(one.connections_lost > 0 for one in transcripts),
        resumed=sum(one.connections_lost > 0 and one.final_step_count == steps for one in transcripts),
    )
