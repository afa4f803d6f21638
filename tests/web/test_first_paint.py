"""What a browser loads before the page is there: little, and from nobody else."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import expect

from tests.servers import Server
from tests.web.conftest import WIDE, Visit, Visitor

pytestmark = pytest.mark.anyio
MOST_BYTES = 100_000


@pytest.mark.parametrize("fragment", ["", "#pool"])
async def test_the_first_paint_loads_less_than_100_kb_and_from_its_server_only(
    echo_server: Server, visit: Visit, fragment: str
) -> None:
    visitor: Visitor = await visit(echo_server.url, size=WIDE)
    page = visitor.page
    wire = await page.context.new_cdp_session(page)
    asked: dict[str, str] = {}
    loaded: dict[str, int] = {}
    coded: dict[str, str] = {}

    def sent(event: dict[str, Any]) -> None:
        before = event.get("redirectResponse")
        if before is not None:
            loaded[before["url"]] = before["encodedDataLength"]
        asked[event["requestId"]] = event["request"]["url"]

    def answered(event: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in event["response"]["headers"].items()}
        coded[event["response"]["url"]] = headers.get("content-encoding", "")

    def finished(event: dict[str, Any]) -> None:
        loaded[asked[event["requestId"]]] = event["encodedDataLength"]

    wire.on("Network.requestWillBeSent", sent)
    wire.on("Network.responseReceived", answered)
    wire.on("Network.loadingFinished", finished)
    await wire.send("Network.enable")
    await wire.send("Network.setCacheDisabled", {"cacheDisabled": True})
    await page.goto(f"{echo_server.url}/{fragment}", wait_until="networkidle" if fragment == "" else "load")
    await expect(page.locator("#play-title")).to_have_text("meta game")
    if fragment:
        await expect(page.locator("#pool-state")).to_have_text("Live")

    paths = {urlsplit(url).path for url in loaded}
    assert {"/", "/web/", "/web/page.css", "/web/main.js", "/web/pool.js", "/metadata", "/schema"} <= paths
    assert set(asked.values()) <= set(loaded) | {f"{echo_server.url}/pool", f"{echo_server.url}/sessions?limit=50"}
    assert coded[f"{echo_server.url}/web/page.css"] == "gzip"
    assert all(size > 0 for size in loaded.values())
    assert 10_000 < sum(loaded.values()) < MOST_BYTES
    assert {urlsplit(url).netloc for url in asked.values()} == {urlsplit(echo_server.url).netloc}
