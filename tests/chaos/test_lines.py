"""The proxies: what passes, what a delay does, what a trap waits for, and what a cut loses."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from websockets.frames import Frame, Opcode

from chaos.lines import Line, Pair, commit_to_redis, step_to_worker
from chaos.processes import fixed_port
from services.store import scripts

pytestmark = pytest.mark.anyio


class Upper:
    """A server that answers in capitals, and what it was sent."""

    def __init__(self) -> None:
        self.got = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                self.got += data
                writer.write(data.upper())
        writer.close()


@pytest.fixture
async def upper() -> AsyncIterator[tuple[Upper, Line]]:
    behind = Upper()
    server = await asyncio.start_server(behind.serve, "127.0.0.1", 0)
    line = Line(fixed_port(), server.sockets[0].getsockname()[1], lambda _, chunk: chunk.startswith(b"step"))
    await line.open()
    yield behind, line
    line.close()
    server.close()


class Asking:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, text: bytes) -> bytes:
        self.writer.write(text)
        with contextlib.suppress(OSError):
            return await self.reader.read(1000)
        return b""


Open = Callable[[Line], Awaitable[Asking]]


@pytest.fixture
async def through() -> AsyncIterator[Open]:
    """Opens connections through a line, and closes them in the end."""
    opened: list[Asking] = []

    async def open_one(line: Line) -> Asking:
        opened.append(Asking(*await asyncio.open_connection("127.0.0.1", line.port)))
        return opened[-1]

    yield open_one
    for one in opened:
        one.writer.close()
        with contextlib.suppress(OSError):
            await one.writer.wait_closed()


async def test_bytes_pass_both_ways(upper: tuple[Upper, Line], through: Open) -> None:
    assert await (await through(upper[1])).ask(b"hello") == b"HELLO"


async def test_a_delay_holds_each_way_back_and_keeps_the_order(upper: tuple[Upper, Line], through: Open) -> None:
    behind, line = upper
    asking = await through(line)
    await asking.ask(b"warm")
    line.delay_s = 0.05
    loop = asyncio.get_running_loop()
    began = loop.time()
    asking.writer.write(b"a")
    await asyncio.sleep(0.01)
    line.delay_s = 0.02
    asking.writer.write(b"b")
    got = b""
    while len(got) < 2:
        got += await asking.reader.read(10)
    assert (got, behind.got) == (b"AB", b"warmab")
    assert loop.time() - began >= 0.07


async def test_a_trap_waits_for_a_step(upper: tuple[Upper, Line], through: Open) -> None:
    behind, line = upper
    asking = await through(line)
    seen: list[bytes] = []
    waiting = asyncio.create_task(line.strike("passes", lambda: seen.append(behind.got)))
    await asking.ask(b"question")
    assert not waiting.done()
    assert await asking.ask(b"step") == b"STEP"
    await waiting
    assert len(seen) == 1


async def test_a_step_that_is_cut_as_it_arrives_never_gets_there(upper: tuple[Upper, Line], through: Open) -> None:
    behind, line = upper
    asking, bystander = await through(line), await through(line)
    await asking.ask(b"warm")
    waiting = asyncio.create_task(line.strike("arrives", line.cut))
    await asyncio.sleep(0)
    assert await asking.ask(b"step") == b""
    await waiting
    assert behind.got == b"warm"
    assert await bystander.ask(b"x") == b""


async def test_an_answer_that_is_cut_was_carried_out(upper: tuple[Upper, Line], through: Open) -> None:
    behind, line = upper
    asking = await through(line)
    waiting = asyncio.create_task(line.strike("answered", line.cut))
    await asyncio.sleep(0)
    assert await asking.ask(b"step") == b""
    await waiting
    assert behind.got == b"step"
    assert await (await through(line)).ask(b"again") == b"AGAIN"


async def test_without_a_step_a_fault_strikes_all_the_same(
    upper: tuple[Upper, Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.lines.PATIENCE_S", 0.01)
    struck: list[int] = []
    await upper[1].strike("passes", lambda: struck.append(1), after_s=60)
    assert struck == [1]


async def test_a_trap_for_sockets_lets_other_steps_pass(upper: tuple[Upper, Line], through: Open) -> None:
    line = upper[1]
    struck: list[int] = []
    waiting = asyncio.create_task(line.strike("passes", lambda: struck.append(1), on_sockets=True))
    asking = await through(line)
    await asking.ask(b"step")
    assert struck == []
    next(iter(line.pairs)).upgraded = True
    await asking.ask(b"step")
    await waiting
    assert struck == [1]


async def test_a_trap_for_sockets_takes_another_step_where_there_are_none(
    upper: tuple[Upper, Line], through: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.lines.PATIENCE_S", 0.2)
    struck: list[bytes] = []
    waiting = asyncio.create_task(upper[1].strike("passes", lambda: struck.append(b"step"), on_sockets=True))
    asking = await through(upper[1])
    while not struck:
        await asking.ask(b"step")
    assert not next(iter(upper[1].pairs)).upgraded
    await waiting


async def test_a_worker_that_is_gone_ends_the_connection(through: Open) -> None:
    line = Line(fixed_port(), fixed_port(), step_to_worker)
    await line.open()
    assert await (await through(line)).ask(b"x") == b""
    line.close()


def frame(data: dict[str, object]) -> bytes:
    return Frame(Opcode.TEXT, json.dumps(data).encode()).serialize(mask=True)


def test_a_step_to_a_worker_is_told_from_what_is_none() -> None:
    pair = Pair(Line(1, 2, step_to_worker))
    key = base64.b64encode(bytes(16)).decode()
    assert step_to_worker(pair, b"POST /sessions/a/step HTTP/1.1\r\n")
    assert not step_to_worker(pair, b"POST /sessions/step-1/reset HTTP/1.1\r\n")
    assert not step_to_worker(pair, b"GET /ready HTTP/1.1\r\n\r\n")
    assert not step_to_worker(pair, f"GET /ws HTTP/1.1\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: {key}\r\n".encode())
    assert step_to_worker(pair, frame({"type": "step", "data": {"message": "a"}}))
    assert step_to_worker(pair, frame({"type": "step", "data": {"message": "a" * 300}}))
    assert step_to_worker(pair, frame({"type": "step", "data": {"message": "a" * 70_000}}))
    assert not step_to_worker(pair, frame({"type": "state"}))
    assert not step_to_worker(pair, Frame(Opcode.CLOSE, b"").serialize(mask=True))


def test_a_commit_is_told_from_other_scripts() -> None:
    nothing: dict[str, bytes] = dict.fromkeys(("attachment", "entry", "expected", "generation", "body"), b"")
    made = {
        "commit": scripts.commit(record="k", ttl_ms="1", lease_ms="1", **nothing),
        "attach": scripts.attach(record="k", attachment=b"", unless_owned="0", ttl_ms="1", lease_ms="1"),
        "renew": scripts.renew(record="k", attachment=b"", ttl_ms="1", lease_ms="1"),
    }
    pair = Pair(Line(1, 2, commit_to_redis))
    told = {name: commit_to_redis(pair, _packed(command.words)) for name, command in made.items()}
    assert told == {"commit": True, "attach": False, "renew": False}


def _packed(words: tuple[bytes | str, ...]) -> bytes:
    parts = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
