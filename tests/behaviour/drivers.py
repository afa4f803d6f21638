"""Every way in, behind one border, so that a behaviour is said once and proved on each.

A driver asks as a client would and changes the worker as often as its surface allows. It also
holds every answer against what the wire promises: frames, statuses, headers.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from metagame.core.session import Expect
from metagame.errors import BY_REASON, TABLE, outward
from metagame.games import Observation
from metagame.wire.answers import StateAnswer, decode_frame, decode_observation, decode_state, error_of_body
from metagame.wire.requests import (
    CloseRequest,
    Request,
    ResetRequest,
    StateRequest,
    StepRequest,
    encode_body,
    encode_frame,
)
from tests.behaviour.apps import Pool

Naming = Literal["header", "query", "cookie", "path", "anonymous"]


class Driver(Protocol):
    """One client of one session; every verb raises the typed error that was answered."""

    session_id: str | None

    async def reset(self, request: ResetRequest) -> Observation:
        """Start an episode."""

    async def step(self, request: StepRequest) -> Observation:
        """Take a step."""

    async def state(self) -> StateAnswer:
        """Where the session stands."""

    async def leave(self) -> None:
        """Be gone, without a word."""


@dataclass(frozen=True)
class Surface:
    """A way in and a way of naming the session."""

    socket: bool
    naming: Naming

    def __str__(self) -> str:
        return f"{'ws' if self.socket else 'http'}-{self.naming}"

    @property
    def anonymous(self) -> bool:
        """Whether nobody but the client's own socket can reach the session."""
        return self.naming == "anonymous"

    def open(self, pool: Pool, session_id: str | None = None) -> HttpDriver | WsDriver:
        """A client; of a session of its own unless one is named."""
        if session_id is None and self.naming not in {"cookie", "anonymous"}:
            session_id = f"s-{secrets.token_hex(6)}"
        return WsDriver(pool, self.naming, session_id) if self.socket else HttpDriver(pool, self.naming, session_id)


SURFACES = [
    *[Surface(socket=False, naming=naming) for naming in ("header", "query", "cookie", "path")],
    *[Surface(socket=True, naming=naming) for naming in ("path", "query", "header", "anonymous")],
]


class HttpDriver:
    """OpenEnv's HTTP; every request goes to another worker than the last."""

    def __init__(self, pool: Pool, naming: Naming, session_id: str | None) -> None:
        self.session_id = session_id
        self._pool = pool
        self._naming = naming
        self._turn = 0
        self._client = httpx.AsyncClient(trust_env=False)
        if naming == "cookie" and session_id is not None:
            self._client.cookies.set("metagame_session", session_id, "127.0.0.1")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def reset(self, request: ResetRequest) -> Observation:
        return self._observed(await self._send("POST", "/reset", encode_body(request)), request.request_id)

    async def step(self, request: StepRequest) -> Observation:
        return self._observed(await self._send("POST", "/step", encode_body(request)), request.request_id)

    async def state(self) -> StateAnswer:
        return decode_state((await self._send("GET", "/state")).json())

    async def leave(self) -> None:
        await self._client.aclose()

    async def _send(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        self._turn += 1
        headers = {"content-type": "application/json"} if body is not None else {}
        params = {}
        if self._naming == "path":
            path = f"/sessions/{self.session_id}{path}"
        elif self._naming == "header":
            headers["x-session-id"] = str(self.session_id)
        elif self._naming == "query":
            params["session_id"] = str(self.session_id)
        named = self._naming != "cookie" or "metagame_session" in self._client.cookies
        answer = await self._client.request(
            method, self._pool.url(self._turn) + path, headers=headers, params=params, content=body
        )
        self._check(answer, named=named)
        return answer

    def _check(self, answer: httpx.Response, *, named: bool) -> None:
        assert answer.headers["content-type"] == "application/json"
        told = answer.headers.get("x-session-id")
        if named or answer.status_code < 400:
            assert told is not None
            assert (answer.headers.get("set-cookie") is not None) == (self._naming == "cookie")
        if self.session_id is None:
            self.session_id = told
        assert told in {None, self.session_id}
        if answer.status_code >= 400:
            error = error_of_body(answer.content)
            row = outward(error)
            reading = answer.request.method == "GET" and row.read_status is not None
            assert answer.status_code == (row.read_status if reading else row.status)
            assert answer.json()["code"] == row.code
            assert set(answer.json()) >= {"detail", "code"}
            raise error

    @staticmethod
    def _observed(answer: httpx.Response, request_id: str | None) -> Observation:
        body = answer.json()
        check_observation(body, request_id, body)
        seen = decode_observation(body)
        assert body["metadata"] == (seen.metadata or None)
        return seen


class WsDriver:
    """OpenEnv's socket; where the session has a name, every frame goes out on a socket to another worker."""

    def __init__(self, pool: Pool, naming: Naming, session_id: str | None, *, hop: bool = True) -> None:
        self.session_id = session_id
        self._pool = pool
        self._naming = naming
        self._hop = hop and naming != "anonymous"
        self._turn = 0
        self._socket: ClientConnection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def reset(self, request: ResetRequest) -> Observation:
        answer = await self._ask(request)
        assert isinstance(answer, Observation)
        return answer

    async def step(self, request: StepRequest) -> Observation:
        answer = await self._ask(request)
        assert isinstance(answer, Observation)
        return answer

    async def state(self) -> StateAnswer:
        answer = await self._ask(StateRequest())
        assert isinstance(answer, StateAnswer)
        return answer

    async def close(self) -> int:
        """Send a `close` frame; the code that the server closes with."""
        socket = await self.socket()
        await socket.send(encode_frame(CloseRequest()))
        await socket.wait_closed()
        self._socket = None
        return socket.close_code or 0

    async def leave(self) -> None:
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    async def socket(self) -> ClientConnection:
        """The open socket."""
        if self._socket is None:
            self._turn += 1
            self._socket = await open_socket(self._pool.url(self._turn), self._naming, self.session_id)
        return self._socket

    async def _ask(self, request: Request) -> Observation | StateAnswer:
        if self._hop:
            await self.leave()
        socket = await self.socket()
        with contextlib.suppress(ConnectionClosed):  # a server that refused the socket has said why
            await socket.send(encode_frame(request))
        return read_answer(str(await socket.recv()), request)


async def open_socket(url: str, naming: Naming, session_id: str | None) -> ClientConnection:
    """A socket as a stock client opens it: no proxy, no pings."""
    url = url.replace("http", "ws", 1)
    headers = {}
    match naming:
        case "path":
            url += f"/sessions/{session_id}/ws"
        case "query":
            url += f"/ws?session_id={session_id}"
        case "header":
            url, headers = f"{url}/ws", {"X-Session-ID": str(session_id)}
        case _:
            url += "/ws"
    return await connect(url, additional_headers=headers, proxy=None, ping_interval=None, compression=None)


def read_answer(text: str, request: Request) -> Observation | StateAnswer:
    """The answer in a frame, held against what a frame looks like; raises an error frame's error."""
    frame = json.loads(text)
    request_id = None if isinstance(request, CloseRequest) else request.request_id
    assert frame.get("request_id") == request_id
    assert set(frame) == {"type", "data"} | ({"request_id"} if request_id is not None else set())
    if frame["type"] == "observation":
        check_observation(frame["data"], request_id, frame)
        assert frame["data"].get("metadata") != {}
        assert "metadata" not in frame["data"] or frame["data"]["metadata"] is not None
    if frame["type"] == "error":
        assert frame["data"]["code"] == TABLE[BY_REASON[frame["data"]["reason"]]].code
    return decode_frame(text)[0]


def check_observation(data: dict[str, Any], request_id: str | None, around: dict[str, Any]) -> None:
    """Reward and done stand at top level only; the request id is echoed exactly where there is one."""
    assert {"observation", "reward", "done"} <= set(data) <= {"observation", "reward", "done", "metadata", "request_id"}
    assert not {"reward", "done"} & set(data["observation"])
    assert around.get("request_id") == request_id


def expect(answer: StateAnswer) -> Expect:
    """The place that an answer tells, as a later request expects it."""
    return Expect(answer.episode_id, answer.step_count)
