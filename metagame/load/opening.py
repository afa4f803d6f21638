"""Opening many connections, each until its session's first reset is answered; and ending them politely."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import time
from array import array
from collections.abc import Iterable
from functools import cache

from metagame.load.connections import Connection, Http, WebSocket
from metagame.load.results import Errors, Opened
from metagame.load.spec import Sockets
from metagame.load.stepper import Stepper

_BIND_ADDRESS_NO_PORT = 24
"""Linux: the port is chosen when the other end is known, so that each address has its ports to each server."""
_CLOSED_AT_ONCE = 256
_CLOSE_TIMEOUT_S = 5.0


class NotOpened(Exception):
    """A connection that could not be opened; the text says why."""


async def open_all(sockets: Sockets) -> tuple[list[Stepper], Opened]:
    """Open them all; those that could not be are errors."""
    steppers: list[Stepper] = []
    open_ms, errors = array("d"), Errors()
    began, cpu_began = time.perf_counter(), time.process_time()

    async def open_counted(number: int, since: float) -> None:
        try:
            async with asyncio.timeout(sockets.timeout_s):
                stepper = await _open(sockets, number)
        except TimeoutError:
            errors.add(f"not open after {sockets.timeout_s:g} s")
        except (NotOpened, OSError) as wrong:
            errors.add(str(wrong))
        else:
            open_ms.append((time.perf_counter() - since) * 1000)
            steppers.append(stepper)

    numbers = range(sockets.first, sockets.first + sockets.count)
    if sockets.per_s:
        async with asyncio.TaskGroup() as group:
            for number in numbers:
                due = began + (number - sockets.first) / sockets.per_s
                await asyncio.sleep(due - time.perf_counter())
                group.create_task(open_counted(number, due))
    else:
        waiting = iter(numbers)

        async def one_after_the_other() -> None:
            for number in waiting:
                await open_counted(number, time.perf_counter())

        async with asyncio.TaskGroup() as group:
            for _ in range(min(sockets.at_once, sockets.count)):
                group.create_task(one_after_the_other())
    seconds = time.perf_counter() - began
    return steppers, Opened(len(steppers), seconds, [time.process_time() - cpu_began], errors, open_ms)


async def close_all(steppers: Iterable[Stepper], sockets: Sockets) -> None:
    """End every session as its surface ends one, and drop the connections."""
    waiting = iter([stepper for stepper in steppers if stepper.lost is None])

    async def one_after_the_other() -> None:
        for stepper in waiting:
            connection = stepper.connection
            ended = asyncio.get_running_loop().create_future()
            connection.on_lost = _resolves(ended)
            if isinstance(connection, WebSocket):
                connection.on_answer = _ignore
                connection.transport.write(WebSocket.encode(b'{"type":"close"}'))
            elif isinstance(connection, Http) and sockets.surface == "http":
                connection.on_answer = _resolves(ended)
                connection.transport.write(connection.encode("DELETE", sockets.path(stepper.number, ""), b""))
            else:
                ended.set_result(b"")
            await asyncio.wait([ended], timeout=_CLOSE_TIMEOUT_S)
            connection.drop()

    await asyncio.gather(*[one_after_the_other() for _ in range(_CLOSED_AT_ONCE)])


async def _open(sockets: Sockets, number: int) -> Stepper:
    host, port = sockets.addresses[number % len(sockets.addresses)]
    connection = await connect(sockets, host, port)
    try:
        if isinstance(connection, WebSocket):
            connection.upgrade(sockets.path(number, "ws"))
            await answer(connection)
            connection.transport.write(WebSocket.encode(b'{"type":"reset","data":{}}'))
        elif isinstance(connection, Http):
            connection.transport.write(connection.encode("POST", sockets.path(number, "reset"), b"{}"))
        _check_reset(await answer(connection))
    except BaseException:
        connection.drop()
        raise
    return Stepper(connection, number, sockets)


def _check_reset(ready: bytes) -> None:
    if b'"observation"' not in ready or ready.startswith(b"HTTP "):
        raise NotOpened("reset: " + ready[:250].decode(errors="replace"))


async def connect(sockets: Sockets, host: str, port: int) -> Connection:
    """A TCP or TLS connection of the kind that the surface needs, from the first of the source addresses."""
    loop = asyncio.get_running_loop()
    kind = WebSocket if sockets.surface == "websocket" else Http
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    tls = _tls() if sockets.tls else None
    if not sockets.sources:
        _, connection = await loop.create_connection(lambda: kind(name, sockets.headers), host, port, ssl=tls)
        return connection
    raw = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        raw.setblocking(False)  # noqa: FBT003 - socket's own signature
        if sys.platform == "linux":
            raw.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        raw.bind((sockets.sources[0], 0))
        await loop.sock_connect(raw, (host, port))
        _, connection = await loop.create_connection(
            lambda: kind(name, sockets.headers), sock=raw, ssl=tls, server_hostname=host if tls else None
        )
    except BaseException:
        raw.close()
        raise
    return connection


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


async def answer(connection: Connection) -> bytes:
    """The next answer on a connection that nobody else listens to; raises NotOpened when it is lost instead."""
    if connection.lost is not None:
        raise NotOpened(connection.lost)
    waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    connection.on_answer = _resolves(waiting)

    def lost(why: str) -> None:
        if not waiting.done():
            waiting.set_exception(NotOpened(why))

    connection.on_lost = lost
    return await waiting


class _resolves:  # noqa: N801 - a function with a type for both kinds of callback
    """Sets the future's result once, whatever it is called with."""

    def __init__(self, future: asyncio.Future[bytes]) -> None:
        self._future = future

    def __call__(self, what: bytes | str) -> None:
        if not self._future.done():
            self._future.set_result(what if isinstance(what, bytes) else what.encode())


def _ignore(_: bytes) -> None:
    """Of no interest any more."""
