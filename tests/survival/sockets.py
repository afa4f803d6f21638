"""A WebSocket client without any resilience: what it sends is what the test says."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Protocol, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.survival.workers import WAIT_S

__all__ = ["ConnectionClosed", "Socket"]


class Listening(Protocol):
    """A worker, or what stands before some."""

    @property
    def url(self) -> str: ...


class Socket:
    """One socket of a worker; anonymous without a session id."""

    def __init__(self, worker: Listening, session_id: str | None = None) -> None:
        path = "/ws" if session_id is None else f"/sessions/{session_id}/ws"
        self._url = "ws" + worker.url.removeprefix("http") + path
        self._connection: ClientConnection

    async def __aenter__(self) -> Self:
        self._connection = await connect(self._url, proxy=None, ping_interval=None, open_timeout=WAIT_S)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Dropped, not closed: a stopped worker would answer no handshake.
        self._connection.transport.abort()
        await self._connection.wait_closed()

    async def send(self, kind: str, data: dict[str, Any] | None = None, **extra: Any) -> None:
        frame = {"type": kind, **({} if data is None else {"data": data}), **extra}
        await self._connection.send(json.dumps(frame))

    async def receive(self) -> Any:
        return json.loads(await self._connection.recv())

    async def ask(self, kind: str, data: dict[str, Any] | None = None, **extra: Any) -> Any:
        """The answer's `data`, of an error frame too."""
        await self.send(kind, data, **extra)
        return (await self.receive())["data"]

    async def reset(self) -> None:
        assert (await self.ask("reset", {}))["reward"] == 0.0

    async def step(self, message: str = "abc", **extra: Any) -> int:
        """Which step of the episode this was."""
        answer = await self.ask("step", {"message": message}, **extra)
        assert "observation" in answer, answer
        number: int = answer["metadata"]["step"]
        return number

    async def stands(self) -> tuple[str | None, int]:
        """The episode and its step count."""
        state = await self.ask("state")
        return state["episode_id"], state["step_count"]

    async def close_code(self) -> int | None:
        """Wait for the server's close; its code, None where the connection just broke."""
        try:
            while True:
                await self._connection.recv()
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code
