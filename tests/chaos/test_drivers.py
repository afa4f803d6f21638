"""Stock clients that share no code with ours, against a real server: what they answer, and what they find out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest

from chaos.drivers import NOTHING_YET, Answer, Driver, Ours, StockHttp, StockSocket, Unknown
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
