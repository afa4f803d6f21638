"""Stock clients that share no code with ours, against a real server: what they answer, and what they find out."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import pytest

from chaos.drivers import NOTHING_YET, Answer, Driver, Forgotten, Ours, StockHttp, StockHttpKey, StockSocket, Unknown
from chaos.lines import Line, step_to_worker
from chaos.processes import fixed_port
from tests.servers import Server

pytestmark = pytest.mark.anyio
Make = Callable[[str], Driver]
STOCK: dict[str, Make] = {
    "stock-ws": lambda url: StockSocket(url, uuid4().hex),
    "stock-http": lambda url: StockHttp(url, uuid4().hex),
}
ALL: dict[str, Make] = STOCK | {
    "stock-http-key": lambda url: StockHttpKey(url, uuid4().hex, lost=lambda _: None),
    "ours-ws": lambda url: Ours(url, http=False, lost=lambda _: None),
    "ours-http": lambda url: Ours(url, http=True, lost=lambda _: None),
}


@pytest.fixture
async def line(echo_server: Server) -> AsyncIterator[Line]:
    """A line to the server, on which connections can be cut."""
    line = Line(fixed_port(), int(echo_server.url.rpartition(":")[2]), step_to_worker)
    await line.open()
    yield line
    line.close()


def url_of(line: Line) -> str:
    return f"http://127.0.0.1:{line.port}"


@pytest.mark.parametrize("kind", ALL)
async def test_each_kind_resets_steps_and_asks(kind: str, line: Line) -> None:
    driver = ALL[kind](url_of(line))
    assert await driver.state() == NOTHING_YET
    assert await driver.reset("one") == Answer(None, "Meta Game environment ready!", 0, 0.0, done=False)
    assert await driver.step("abc") == Answer(1, "abc", 3, 0.3, done=False)
    assert await driver.state() == ("one", 1)
    await driver.reopen()
    assert (await driver.step("again")).step == 2
    await driver.close()


@pytest.mark.parametrize("kind", STOCK)
@pytest.mark.parametrize(("moment", "counted"), [("arrives", 0), ("answered", 1)])
async def test_a_stock_client_that_is_cut_off_does_not_know_and_finds_out(
    kind: str, moment: str, counted: int, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.drivers.SETTLE_S", 0.1)
    driver = STOCK[kind](url_of(line))
    await driver.reset("one")
    cut = asyncio.create_task(line.strike(moment, line.cut))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    with pytest.raises(Unknown):
        await driver.step("abc")
    await cut
    await driver.recover()
    assert await driver.state() == ("one", counted)
    assert (await driver.step("next")).step == counted + 1
    await driver.close()


@pytest.mark.parametrize("kind", STOCK)
async def test_a_refusal_leaves_a_stock_client_in_doubt_too(kind: str, line: Line) -> None:
    driver = STOCK[kind](url_of(line))
    with pytest.raises(Unknown, match="reset"):
        await driver.step("abc")
    await driver.close()


class Scripted:
    """A server that answers by a script: a status and a body each, or None to hang up; and what keys it was sent."""

    def __init__(self, *script: tuple[int, dict[str, object]] | None) -> None:
        self.keys: list[str] = []
        self._script = list(script)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                await reader.readexactly(int(headers["content-length"]))
                self.keys.append(headers["idempotency-key"])
                said = self._script.pop(0)
                if said is None:
                    break
                body = json.dumps(said[1]).encode()
                writer.write(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%b" % (said[0], len(body), body))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


Script = Callable[..., Awaitable[tuple[Scripted, str]]]


@pytest.fixture
async def scripted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Script]:
    """Starts servers with a script; yields what makes one, and where it is."""
    monkeypatch.setattr("chaos.drivers._RECONNECT_S", 0.0)
    async with contextlib.AsyncExitStack() as stack:

        async def make(*script: tuple[int, dict[str, object]] | None) -> tuple[Scripted, str]:
            one = Scripted(*script)
            server = await stack.enter_async_context(await asyncio.start_server(one.serve, "127.0.0.1", 0))
            return one, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        yield make


SEEN = {
    "observation": {"echoed_message": "a", "message_length": 1, "metadata": {"step": 1}},
    "reward": 0.1,
    "done": False,
}


async def test_a_client_with_its_own_key_sends_again_with_it_until_it_is_answered(
    scripted: Script,
) -> None:
    server, url = await scripted((502, {}), (503, {}), None, (504, {}), (200, SEEN), (200, SEEN))
    lost: list[str] = []
    driver = StockHttpKey(url, "s", lost.append)
    assert await driver.step("a") == Answer(1, "a", 1, 0.1, done=False)
    assert [why.split()[0] for why in lost] == ["502", "503", "RemoteProtocolError:", "504"]
    await driver.step("a")
    assert len(server.keys) == 6
    assert len(set(server.keys[:5])) == 1
    assert server.keys[5] != server.keys[0]
    await driver.close()


async def test_to_a_client_with_its_own_key_a_forgotten_answer_is_a_step_and_another_refusal_is_none(
    scripted: Script,
) -> None:
    _, url = await scripted((409, {"reason": "answer_forgotten", "step": 7}), (409, {"reason": "no_episode"}))
    driver = StockHttpKey(url, "s", lambda _: None)
    with pytest.raises(Forgotten) as forgotten:
        await driver.step("a")
    assert forgotten.value.step == 7
    with pytest.raises(Unknown, match="no_episode"):
        await driver.step("a")
    await driver.close()


@pytest.mark.parametrize("moment", ["arrives", "answered"])
async def test_a_client_with_its_own_key_steps_once_whatever_is_cut(moment: str, line: Line) -> None:
    lost: list[str] = []
    driver = StockHttpKey(url_of(line), uuid4().hex, lost.append)
    await driver.reset("one")
    cut = asyncio.create_task(line.strike(moment, line.cut))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert (await driver.step("abc")).step == 1
    await cut
    assert len(lost) == 1
    assert await driver.state() == ("one", 1)
    await driver.close()


@pytest.mark.parametrize("kind", ["ours-ws", "ours-http"])
async def test_our_client_hides_a_cut_and_its_attempts_are_noted(kind: str, line: Line) -> None:
    lost: list[str] = []
    driver = Ours(url_of(line), http=kind == "ours-http", lost=lost.append)
    await driver.reset("one")
    cut = asyncio.create_task(line.strike("answered", line.cut))
    await asyncio.sleep(0)
    assert (await driver.step("abc")).step == 1
    await cut
    assert len(lost) == 1
    await driver.close()
