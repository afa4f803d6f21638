"""The ways a client speaks: ours over both transports, and stock ones that share no code with us.

A stock client sends what OpenEnv's clients send: no request id, no expectation. What it cannot know it calls
`Unknown`; how it finds out where its session stands is its own business (`recover`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from metagame import AsyncMetaGameEnv, MetaGameAction
from metagame.client.http import HttpTransport
from metagame.client.transport import ConnectionLost, Transport, parse_base_url
from metagame.client.websocket import WebSocketTransport
from metagame.errors import Unavailable
from metagame.wire.answers import Answer as WireAnswer
from metagame.wire.requests import Request

ANSWER_TIMEOUT_S = 60.0
"""OpenEnv's own."""
SETTLE_S = 7.0
"""Above METAGAME_REDIS_TIMEOUT_S: a request that a worker still has in its hands is decided by then."""
_RECONNECT_S = 0.2
_GOODBYE_S = 1.0
_SENT_AGAIN = frozenset({httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT})

Lost = Callable[[str], None]


NOTHING_YET = (None, 0)
"""Where a session stands that does not exist."""


class Unknown(Exception):
    """The call may have counted; the text says what happened."""


class Forgotten(Exception):
    """The call counted as `step`, and its answer is no longer kept."""

    def __init__(self, step: int) -> None:
        super().__init__(f"committed as step {step}")
        self.step = step


class NoSession(Unknown):
    """The server knows no such session."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reset or step was answered; `step` is None for a reset."""

    step: int | None
    echo: str
    length: int
    reward: float | None
    done: bool


class Driver(Protocol):
    """A client's way to its session. Calls come one at a time."""

    session: str

    async def reset(self, episode: str) -> Answer:
        """Start the episode of this name; raises Unknown, Forgotten, or our client's own error."""

    async def step(self, message: str) -> Answer:
        """Take one step; raises likewise."""

    async def recover(self) -> None:
        """After an unknown outcome: do what makes `state` say how it turned out."""

    async def state(self) -> tuple[str | None, int]:
        """Episode and step; asked until it is answered."""

    async def reopen(self) -> None:
        """Let the connection go, well as it is; the next call opens another, wherever the balancer leads."""

    async def close(self) -> None:
        """Let the connection go for good; the session stays."""


class Ours:
    """`AsyncMetaGameEnv`, with a note of every attempt that failed inside it."""

    def __init__(self, base_url: str, *, http: bool, lost: Lost) -> None:
        address, _ = parse_base_url(base_url)
        self._transport = _Noted(HttpTransport(address) if http else WebSocketTransport(address), lost)
        self._env = AsyncMetaGameEnv(base_url, transport=self._transport)
        self.session = self._env.session_id

    async def reset(self, episode: str) -> Answer:
        """As the client does it."""
        return _of_result(await self._env.reset(episode_id=episode), is_step=False)

    async def step(self, message: str) -> Answer:
        """As the client does it."""
        return _of_result(await self._env.step(MetaGameAction(message=message)), is_step=True)

    async def recover(self) -> None:
        """Nothing: `state` does."""

    async def state(self) -> tuple[str | None, int]:
        """As the client does it."""
        state = await self._env.state()
        return state.episode_id, state.step_count

    async def reopen(self) -> None:
        """A transport that was closed opens again."""
        await self.close()

    async def close(self) -> None:
        """The socket or the connections; the environment's own close would end the session."""
        await self._transport.close()


class _Noted:
    """A transport that tells of attempts that failed."""

    def __init__(self, inner: Transport, lost: Lost) -> None:
        self._inner = inner
        self._lost = lost

    async def exchange(self, session_id: str, request: Request) -> WireAnswer | None:
        try:
            return await self._inner.exchange(session_id, request)
        except (ConnectionLost, Unavailable) as wrong:
            self._lost(str(wrong))
            raise

    async def close(self) -> None:
        await self._inner.close()


class StockSocket:
    """Plain frames on `/sessions/<id>/ws`. A new socket is a barrier: the state it is told is final."""

    def __init__(self, base_url: str, session: str) -> None:
        self.session = session
        self._url = f"ws{base_url.removeprefix('http')}/sessions/{session}/ws"
        self._socket: ClientConnection | None = None

    async def reset(self, episode: str) -> Answer:
        """A reset frame that names its episode."""
        return _of_data(await self._ask("reset", {"episode_id": episode}), is_step=False)

    async def step(self, message: str) -> Answer:
        """A step frame."""
        return _of_data(await self._ask("step", {"message": message}), is_step=True)

    async def recover(self) -> None:
        """Drop the socket; the next call opens another."""
        if self._socket is not None:
            self._socket.transport.abort()
            self._socket = None

    async def state(self) -> tuple[str | None, int]:
        """Where the session stands, by the first socket that says so."""
        while True:
            try:
                data = await self._ask("state", None)
                return data["episode_id"], data["step_count"]
            except NoSession:
                return NOTHING_YET
            except Unknown:
                await self.recover()
                await asyncio.sleep(_RECONNECT_S)

    async def reopen(self) -> None:
        """Close the socket; the next call opens another."""
        await self.close()
        self._socket = None

    async def close(self) -> None:
        """Close the socket, which a worker that hangs does not hold up for long."""
        if self._socket is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._socket.close(), _GOODBYE_S)
            self._socket.transport.abort()

    async def _ask(self, kind: str, data: dict[str, Any] | None) -> dict[str, Any]:
        frame = {"type": kind} if data is None else {"type": kind, "data": data}
        try:
            if self._socket is None:
                self._socket = await connect(self._url, proxy=None, max_size=2**27)
            await self._socket.send(json.dumps(frame))
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = json.loads(await self._socket.recv())
        except (OSError, TimeoutError, WebSocketException, EOFError) as wrong:
            raise Unknown(f"{type(wrong).__name__}: {wrong}"[:300]) from None
        if answer["type"] == "error":
            said = str(answer["data"].get("message"))[:300]
            raise NoSession(said) if answer["data"].get("reason") == "session_lost" else Unknown(said)
        result: dict[str, Any] = answer["data"]
        return result


class StockHttp:
    """Plain requests without request ids; the balancer's Idempotency-Key is all that makes them safe."""

    def __init__(self, base_url: str, session: str) -> None:
        self.session = session
        self._http = httpx.AsyncClient(
            base_url=f"{base_url}/sessions/{session}", timeout=ANSWER_TIMEOUT_S, trust_env=False
        )

    async def reset(self, episode: str) -> Answer:
        """POST /reset, naming the episode."""
        return _of_data(await self._ask("POST", "/reset", {"episode_id": episode}), is_step=False)

    async def step(self, message: str) -> Answer:
        """POST /step."""
        return _of_data(await self._ask("POST", "/step", {"action": {"message": message}}), is_step=True)

    async def recover(self) -> None:
        """Give a worker that still has the request the time to decide it."""
        await asyncio.sleep(SETTLE_S)

    async def state(self) -> tuple[str | None, int]:
        """GET /state, until it is answered."""
        while True:
            try:
                data = await self._ask("GET", "/state", None)
                return data["episode_id"], data["step_count"]
            except NoSession:
                return NOTHING_YET
            except Unknown:
                await asyncio.sleep(_RECONNECT_S)

    async def reopen(self) -> None:
        """Nothing: the balancer spreads requests."""

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        try:
            answer = await self._http.request(method, path, json=body)
        except httpx.HTTPError as wrong:
            raise Unknown(f"{type(wrong).__name__}: {wrong}"[:300]) from None
        return self._result(answer)

    def _result(self, answer: httpx.Response) -> dict[str, Any]:
        if not answer.is_success:
            said = f"{answer.status_code} {answer.text[:300]}"
            raise NoSession(said) if answer.status_code == httpx.codes.NOT_FOUND else Unknown(said)
        result: dict[str, Any] = answer.json()
        return result


class StockHttpKey(StockHttp):
    """The same with an Idempotency-Key of its own a call, sent again until it is answered: never in doubt."""

    def __init__(self, base_url: str, session: str, lost: Lost) -> None:
        super().__init__(base_url, session)
        self._lost = lost

    async def recover(self) -> None:
        """Nothing: a call that was refused did not count."""

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        if method == "GET":
            return await super()._ask(method, path, body)
        key = {"Idempotency-Key": str(uuid4())}
        while True:
            try:
                answer = await self._http.request(method, path, json=body, headers=key)
            except httpx.HTTPError as wrong:
                self._lost(f"{type(wrong).__name__}: {wrong}")
            else:
                if answer.status_code not in _SENT_AGAIN:
                    return self._result(answer)
                self._lost(f"{answer.status_code} {answer.text}")
            await asyncio.sleep(_RECONNECT_S)

    def _result(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.status_code == httpx.codes.CONFLICT and answer.json().get("reason") == "answer_forgotten":
            raise Forgotten(answer.json()["step"])
        return super()._result(answer)


def _of_result(result: Any, *, is_step: bool) -> Answer:
    seen = result.observation
    step = result.metadata.get("step") if is_step else None
    return Answer(step, seen.echoed_message, seen.message_length, result.reward, result.done)


def _of_data(data: dict[str, Any], *, is_step: bool) -> Answer:
    """The fields where OpenEnv's clients look for them."""
    seen = data["observation"]
    step = seen["metadata"]["step"] if is_step else None
    return Answer(step, seen["echoed_message"], seen["message_length"], data["reward"], data["done"])
