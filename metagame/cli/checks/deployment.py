"""The deployment that is checked, as a client that knows nothing of ours sees it: HTTP requests, sockets, frames.

Frames and bodies are written and read here as plain JSON, not by the codec of our client and server, so that a mistake
that both share would show. Every HTTP request has a connection of its own: a balancer may send each to another worker.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from metagame.cli.checks.verdict import Failed, fail
from metagame.cli.target import Target
from metagame.client.http import reason_of
from metagame.wire.keys import HEADER

ANSWER_S = 20.0
"""How long one answer may take: longer than a balancer waits for a worker."""
GOODBYE_S = 2.0
_PREFIX = "metagame-check-"
_OURS = re.compile(f"{_PREFIX}[0-9a-f]+")
_SHOWN = 160
Frame = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer; `body` is its JSON, None where it is none."""

    asked: str
    status: int
    body: Any
    headers: Mapping[str, str]

    def expect(self, *statuses: int) -> dict[str, Any]:
        """The JSON object in an answer with one of these statuses; anything else has failed."""
        self.expect_status(*statuses)
        if not isinstance(self.body, dict):
            fail(f"{self.asked} is not answered with a JSON object")
        return self.body

    def expect_status(self, *statuses: int) -> None:
        """An answer with one of these statuses; any other has failed."""
        if self.status not in statuses:
            fail(f"{self.asked} is answered with HTTP status {self.status}{_told(self.body)}")


class Closed(Failed):
    """The socket was closed where an answer was due."""

    def __init__(self, code: int | None) -> None:
        super().__init__("the connection dropped" if code is None else f"the server closed the socket with {code}")
        self.code = code


class Socket:
    """One open socket."""

    def __init__(self, connection: ClientConnection, answered: Callable[[], None]) -> None:
        self._connection = connection
        self._answered = answered

    async def send(self, frame: Frame | str) -> None:
        """Send a frame: text as it is, anything else as JSON."""
        try:
            await self._connection.send(frame if isinstance(frame, str) else json.dumps(frame))
        except ConnectionClosed as closed:
            raise _closed(closed) from None

    async def receive(self) -> Frame:
        """The next frame; raises Closed where there is none any more."""
        try:
            async with asyncio.timeout(ANSWER_S):
                text = await self._connection.recv()
        except ConnectionClosed as closed:
            raise _closed(closed) from None
        except TimeoutError:
            fail(f"no answer to a frame within {ANSWER_S:g} s")
        try:
            frame = json.loads(text)
        except ValueError:
            frame = None
        if not isinstance(frame, dict):
            fail("a frame that is no JSON object came as an answer")
        if frame.get("type") != "error":
            self._answered()
        return frame

    async def ask(self, frame: Frame | str) -> Frame:
        """The answer to a frame."""
        await self.send(frame)
        return await self.receive()

    async def reset(self, **data: Any) -> dict[str, Any]:
        """Start an episode; the answer's data."""
        return data_of(await self.ask({"type": "reset", "data": data}), "observation")

    async def step(self, message: str, number: int, **more: Any) -> dict[str, Any]:
        """Take the step that must have this number; the answer's data."""
        data = data_of(await self.ask(step_frame(message, **more)), "observation")
        check_step(data, message, number)
        return data

    async def state(self) -> dict[str, Any]:
        """Where the session stands."""
        return data_of(await self.ask({"type": "state"}), "state")

    async def refused(self, frame: Frame | str, *codes: str) -> dict[str, Any]:
        """The data of the error with one of these codes that the frame must be answered with."""
        answer = await self.ask(frame)
        data = data_of(answer, "error")
        if codes and data.get("code") not in codes:
            fail(f"the error's code is {data.get('code')}, not {' or '.join(codes)}: {_text(data)}")
        return data

    def drop(self) -> None:
        """Lose the connection, as a network does: no goodbye."""
        self._connection.transport.abort()


class Deployment:
    """The server, or the pool, at a URL.

    `production`: HTTP control is absent, sessions are reached by sockets only. `metagame`: it is one of ours.
    `echo`: its game is echo, as far as its schema tells. `store_away`: it says that its sessions' store is away.
    `close` ends all sessions made.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.url = target.url
        self.production = False
        self.metagame = True
        self.echo = True
        self.store_away = False
        self._named: set[str] = set()
        self._made: set[str] = set()
        options = target.httpx_options | {"timeout": httpx.Timeout(ANSWER_S)}
        self._client = httpx.AsyncClient(**options, limits=httpx.Limits(max_keepalive_connections=0))

    def new_session(self) -> str:
        """The id of a session that is ended in the end, whatever happens."""
        return self.names(_PREFIX + uuid4().hex)

    def names(self, session_id: str) -> str:
        """Have this session be ended in the end, should it come to be."""
        self._named.add(session_id)
        return session_id

    def ends(self, session_id: str) -> str:
        """Have this session, which is there, be ended in the end."""
        self._made.add(session_id)
        return self.names(session_id)

    async def http(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | None = None,
        keyless: bool = False,
    ) -> Reply:
        """Send one request on a connection of its own; `keyless`: without the API key."""
        asked = f"{method} {_shown(path)}"
        request = self._client.build_request(method, self.url + path, json=body, headers=headers, params=params)
        if keyless:
            request.headers.pop(HEADER, None)
        try:
            response = await self._client.send(request)
        except httpx.TransportError as lost:
            fail(f"{asked} is not answered: {reason_of(lost)}")
        try:
            found = response.json()
        except ValueError:
            found = None
        if response.is_success:
            self._answers(path, body, headers, params)
        return Reply(asked, response.status_code, found, response.headers)

    async def probe(self, path: str) -> httpx.Response:
        """The answer as it came; raises httpx.RequestError where none did."""
        return await self._client.get(self.url + path)

    @asynccontextmanager
    async def socket(self, path: str = "/ws") -> AsyncIterator[Socket]:
        """An open socket, dropped with the block."""
        options: dict[str, Any] = {} if not self.target.address.loopback else {"proxy": None}
        try:
            connection = await connect(
                self.target.address.websocket + path,
                additional_headers=dict(self.target.headers),
                open_timeout=ANSWER_S,
                ping_interval=None,
                compression=None,
                **options,
            )
        except InvalidStatus as wrong:
            status = wrong.response.status_code
            fail(f"{_shown(path)}: the handshake is answered with HTTP status {status}")
        except (InvalidHandshake, InvalidMessage, OSError, TimeoutError, ConnectionClosed) as wrong:
            fail(f"{_shown(path)}: no socket opens ({wrong or type(wrong).__name__})")
        socket = Socket(connection, lambda: self._answers(path))
        try:
            yield socket
        finally:
            socket.drop()
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await connection.wait_closed()

    async def close(self) -> int:
        """End every session that may be there, and the connections; returns how many were there and could not be."""
        left = sum(await asyncio.gather(*map(self._is_left, self._named)))
        await self._client.aclose()
        return left

    def _answers(self, *asked: Any) -> None:
        """Take note that what named one of our sessions was no error: it is there."""
        self._made.update(self._named.intersection(_OURS.findall(repr(asked))))

    async def _is_left(self, session_id: str) -> bool:
        try:
            await self._end(session_id)
        except Failed:
            return self.metagame and session_id in self._made
        return False

    async def _end(self, session_id: str) -> None:
        if not self.production:
            reply = await self.http("DELETE", f"/sessions/{session_id}")
            if reply.status >= httpx.codes.INTERNAL_SERVER_ERROR:
                fail(f"{reply.asked} is answered with HTTP status {reply.status}")
            return
        async with self.socket(by_path(session_id)) as socket:
            await socket.send({"type": "close"})
            with suppress(Closed):
                await socket.receive()


def by_path(session_id: str) -> str:
    """The socket that the path leads to a session."""
    return f"/sessions/{session_id}/ws"


def by_query(session_id: str) -> str:
    """The socket that the query leads to a session."""
    return f"/ws?session_id={session_id}"


def step_frame(message: str, **more: Any) -> Frame:
    """A step; `more` stands beside its data."""
    return {"type": "step", "data": {"message": message}, **more}


def data_of(frame: Frame, kind: str) -> dict[str, Any]:
    """The data of a frame that must be of this type."""
    data = frame.get("data")
    if not isinstance(data, dict):
        fail(f"a frame without data came where one of type {kind} is due")
    if frame.get("type") != kind:
        told = f": {_text(data)}" if frame.get("type") == "error" else ""
        fail(f"a frame of type {frame.get('type')} came where one of type {kind} is due{told}")
    return data


def check_step(data: dict[str, Any], message: str, number: int) -> None:
    """The answer must be this step's own: its echo and its number."""
    observation = data.get("observation")
    echoed = observation.get("echoed_message") if isinstance(observation, dict) else None
    if echoed != message:
        fail(f"the echo is {_short(echoed)}, not {_short(message)} as was sent")
    if step_number(data) != number:
        fail(f"step {number} is answered as step {step_number(data)}")


def step_number(data: dict[str, Any]) -> int | None:
    """The number that an answer says its step had."""
    observation = data.get("observation")
    inside = observation.get("metadata") if isinstance(observation, dict) else None
    metadata = data.get("metadata") or inside
    found = metadata.get("step") if isinstance(metadata, dict) else None
    return found if isinstance(found, int) else None


def check_state(data: dict[str, Any], episode_id: str | None, step_count: int) -> None:
    """The session must stand exactly here."""
    found = (data.get("episode_id"), data.get("step_count"))
    if found[0] != episode_id:
        fail(f"the state is of episode {_short(found[0])}, not of {_short(episode_id)}: another took its place")
    if found[1] != step_count:
        fail(f"the state says step_count {found[1]}, not {step_count}")


def _closed(closed: ConnectionClosed) -> Closed:
    return Closed(None if closed.rcvd is None else closed.rcvd.code)


def _told(body: Any) -> str:
    detail = body.get("detail") if isinstance(body, dict) else None
    return f": {_short(detail)}" if detail else ""


def _text(data: Mapping[str, Any]) -> str:
    return _short(data.get("message"))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and len(value) > _SHOWN else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _shown(path: str) -> str:
    """The path without the id of a session of ours."""
    return _OURS.sub("{id}", path)
