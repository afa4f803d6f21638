"""A browser that may reach nothing but the server, before two workers behind HAProxy."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Route, WebSocket, async_playwright, expect

from tests.balancer.conftest import (
    balanced,
    durable_redis,
    faulty,
    faulty_first,
    http,
    pool,
    pool_workers,
    session_id,
    stock,
    worker_behind_proxy,
)
from tests.wire.test_docs import QUIET, WAIT_MS

__all__ = [
    "balanced",
    "durable_redis",
    "faulty",
    "faulty_first",
    "http",
    "pool",
    "pool_workers",
    "session_id",
    "stock",
    "worker_behind_proxy",
]

expect.set_options(timeout=WAIT_MS)  # who lost a session to another page is told within 8 s
ELSEWHERE = "metagame.test"
"""A name of this machine that is no loopback name."""
PHONE, TABLET, WIDE = (360, 740), (820, 1180), (1440, 900)


@dataclass(slots=True)
class Visitor:
    """One page, and what went wrong in it; `expected` are patterns of what a test provokes."""

    page: Page
    origin: str
    expected: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    async def goto(self, fragment: str = "") -> None:
        """Open the page, or another place in it."""
        await self.page.goto(f"{self.origin}/web/{fragment}")

    @property
    def session_id(self) -> str:
        """The session in the address."""
        found = re.search(r"session=([\w.-]+)", self.page.url)
        assert found is not None, self.page.url
        return found[1]

    def check(self) -> None:
        """Fail for any error that the test did not expect, and for any request to somebody else."""
        unexpected = [line for line in self.wrong if not any(re.search(known, line) for known in self.expected)]
        assert unexpected == []
        assert self.elsewhere == []


Visit = Callable[..., Any]


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium is not None, "the tests need chromium (Debian: apt-get install chromium)"
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(
            executable_path=chromium, args=[*QUIET, f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1"]
        )
        yield running
        await running.close()


@pytest.fixture
async def visit(browser: Browser) -> AsyncIterator[Visit]:
    """Make a visitor of a server: `await visit(url, size=PHONE, dark=True)`; all are checked at the end."""
    visitors: list[Visitor] = []
    async with AsyncExitStack() as stack:

        async def make(url: str, *, size: tuple[int, int] = WIDE, dark: bool = False, **options: Any) -> Visitor:
            visitor = await stack.enter_async_context(_visitor(browser, url, size, dark, options))
            visitors.append(visitor)
            return visitor

        yield make
        for visitor in visitors:
            visitor.check()


@asynccontextmanager
async def _visitor(
    browser: Browser, url: str, size: tuple[int, int], dark: bool, options: dict[str, Any]
) -> AsyncIterator[Visitor]:
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        **options,
    )
    context.set_default_timeout(WAIT_MS)
    page = await context.new_page()
    visitor = Visitor(page, url)
    server = urlsplit(url).netloc

    async def let_through(route: Route) -> None:
        if urlsplit(route.request.url).netloc == server:
            await route.continue_()
        else:
            visitor.elsewhere.append(route.request.url)
            await route.abort()

    def opened(socket: WebSocket) -> None:
        if urlsplit(socket.url).netloc != server:
            visitor.elsewhere.append(socket.url)

    def said(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            visitor.wrong.append(f"{message.text} ({message.location.get('url', '')})")

    await context.route("**/*", let_through)
    page.on("websocket", opened)
    page.on("console", said)
    page.on("pageerror", lambda error: visitor.wrong.append(str(error)))
    yield visitor
    await context.close()


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go."""
    named = os.environ.get("METAGAME_TEST_ARTIFACTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("artifacts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
