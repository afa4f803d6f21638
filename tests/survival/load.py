"""Clients that step all the time, and what their transcripts must be whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from metagame import AsyncMetaGameEnv, MetaGameAction
from metagame.cli.balancer import Balancer

CLIENTS = 12


class CountingBalancer(Balancer):
    """Counts connections: more than one a client means that clients came again."""

    connections = 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await super()._accept(reader, writer)


class Load:
    """Episodes in parallel over sockets and, every third, over HTTP, stepped until told to finish.

    `http_headers` go with every HTTP request: `Connection: close` has each balanced anew.
    """

    def __init__(self, base_url: str, *, clients: int = CLIENTS, http_headers: Mapping[str, str] | None = None) -> None:
        self._envs = [
            AsyncMetaGameEnv(base_url)
            if number % 3
            else AsyncMetaGameEnv(base_url, transport="http", headers=http_headers)
            for number in range(clients)
        ]
        self._transcripts: list[list[tuple[int, float | None]]] = [[] for _ in self._envs]
        self._finish = False
        self._progress = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._play(number)) for number in range(len(self._envs))]
        await self.goes_on()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*[env.close() for env in self._envs], return_exceptions=True)

    async def goes_on(self, steps: int = 10) -> None:
        """Wait until every client has made this many steps more; raises what a client raised."""
        goals = [len(transcript) + steps for transcript in self._transcripts]
        async with self._progress:
            await self._progress.wait_for(
                lambda: (
                    all(len(one) >= goal for one, goal in zip(self._transcripts, goals, strict=True))
                    or any(task.done() for task in self._tasks)
                )
            )
        for task in self._tasks:
            if task.done():
                task.result()

    async def finish(self) -> None:
        """Stop, and check that every client saw steps 1..n and nothing else, and that n is what counts."""
        self._finish = True
        await asyncio.gather(*self._tasks)
        for env, transcript in zip(self._envs, self._transcripts, strict=True):
            assert [number for number, _ in transcript] == list(range(1, len(transcript) + 1))
            assert [reward for _, reward in transcript] == [(1 + number % 7) / 10 for number, _ in transcript]
            assert (await env.state()).step_count == len(transcript)

    async def _play(self, number: int) -> None:
        env, transcript = self._envs[number], self._transcripts[number]
        try:
            await env.reset()
            while not self._finish:
                result = await env.step(MetaGameAction(message="x" * (1 + (len(transcript) + 1) % 7)))
                transcript.append((result.metadata["step"], result.reward))
                async with self._progress:
                    self._progress.notify_all()
        finally:
            async with self._progress:
                self._progress.notify_all()
