"""The page of a server that wants API keys, and of one that is not on this machine."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Page, Route, expect

from tests.servers import Server, run_server
from tests.web.conftest import ELSEWHERE, Visit, Visitor
from tests.web.test_play import start, step

pytestmark = pytest.mark.anyio
KEY = "a-key-of-an-operator"


async def give(page: Page, key: str) -> None:
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("API key").fill(key)
    await dialog.get_by_role("button", name="Use key").click()


async def refused_key(visit: Visit, server: Server) -> Page:
    """The page of somebody who has no key, and says so."""
    visitor: Visitor = await visit(server.url)
    visitor.expected.append("401")
    await visitor.goto()
    await visitor.page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    return visitor.page


async def test_with_its_key_the_page_plays_shows_the_pool_and_keeps_the_key_to_its_tab(visit: Visit) -> None:
    with run_server(METAGAME_API_KEYS=f"another-key,{KEY}") as server:
        visitor: Visitor = await visit(server.url)
        visitor.expected.append("401")
        page = visitor.page
        await visitor.goto()
        await give(page, "not-a-key-of-this-server")
        await expect(page.get_by_role("dialog")).to_contain_text("does not take this API key")
        await give(page, KEY)
        await expect(page.get_by_role("heading", level=1)).to_have_text("meta game")
        await start(page)
        await step(page, "abc", 1)
        await page.reload()
        await expect(page.locator("#connection")).to_have_text("Resumed, step 1")
        await page.get_by_role("link", name="Pool", exact=True).click()
        await expect(page.locator("#pool-state")).to_have_text("Live")
        await expect(page.locator("#pool-attached")).to_have_text("1")
        assert KEY not in page.url
        assert KEY not in server.log
        elsewhere: Visitor = await visit(server.url)
        elsewhere.expected.append("401")
        await elsewhere.goto()
        await expect(elsewhere.page.get_by_role("dialog")).to_be_visible()


async def test_who_has_no_key_is_told_and_may_enter_one_later(visit: Visit) -> None:
    with run_server(METAGAME_API_KEYS=KEY) as server:
        page = await refused_key(visit, server)
        await expect(page.locator("#play-notice")).to_contain_text("An API key is needed")
        await page.get_by_role("button", name="Enter key").click()
        await give(page, KEY)
        await expect(page.get_by_role("heading", level=1)).to_have_text("meta game")
        await expect(page.locator("#play-notice")).to_be_hidden()


async def test_a_request_that_was_under_way_when_no_key_was_given_does_not_ask_again(visit: Visit) -> None:
    with run_server(METAGAME_API_KEYS=KEY) as server:
        visitor: Visitor = await visit(server.url)
        visitor.expected.append("401")
        page = visitor.page
        declined = asyncio.Event()

        async def late(route: Route) -> None:
            answer = await route.fetch()
            await declined.wait()
            await route.fulfill(response=answer)

        await page.route("**/schema", late)
        await visitor.goto()
        await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        async with page.expect_response("**/schema") as answered:
            declined.set()
        assert (await answered.value).status == 401
        await expect(page.locator("#play-notice")).to_contain_text("An API key is needed")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await page.get_by_role("button", name="Enter key").click()
        await give(page, KEY)
        await expect(page.get_by_role("heading", level=1)).to_have_text("meta game")


async def test_from_elsewhere_the_page_plays_and_shows_no_pool(visit: Visit, echo_server: Server) -> None:
    """By another name than loopback's and by plain http, where a browser gives less: no clipboard, no UUIDs."""
    visitor: Visitor = await visit(echo_server.url.replace("127.0.0.1", ELSEWHERE))
    visitor.expected.append("403")
    page = visitor.page
    await visitor.goto()
    assert await page.evaluate("isSecureContext") is False
    await start(page)
    await step(page, "abc", 1)
    await page.get_by_role("button", name="Copy link").click()
    await expect(page.locator("#copy-link")).to_have_text("Copied")
    await page.get_by_role("link", name="Pool", exact=True).click()
    await expect(page.locator("#pool-notice")).to_contain_text("For operators only")
    await expect(page.locator("#pool-notice")).to_contain_text("METAGAME_API_KEYS")
    await expect(page.locator("#pool-live")).to_be_hidden()
    await expect(page.get_by_text("operators only", exact=False).and_(page.locator(":visible"))).to_have_count(2)
    await expect(page.locator("#pool-notice")).not_to_contain_text("`")
    await expect(page.locator("#pool-notice code").last).to_have_text("X-API-Key: KEY")
    await expect(page.locator("#sessions-box")).to_be_hidden()
    await expect(page.locator("main").get_by_role("button")).to_have_text(["Try again"])


@pytest.mark.parametrize(("link", "says"), [("API", '"openapi": "3.1.0"'), ("Schema", '"message"')])
async def test_the_servers_documents_are_shown_in_the_page_since_no_link_carries_a_key(
    visit: Visit, link: str, says: str
) -> None:
    with run_server(METAGAME_API_KEYS=KEY) as server:
        page = await refused_key(visit, server)
        foot = page.get_by_role("navigation", name="More")
        await expect(foot.get_by_role("link")).to_have_text(["Ready?"])  # which needs no key
        await foot.get_by_role("button", name=link).click()
        await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        shown = page.get_by_role("dialog", name=link)
        await expect(shown).to_contain_text("wants an API key")
        await expect(shown).not_to_contain_text("`")
        await shown.get_by_role("button", name="Close").click()
        await foot.get_by_role("button", name=link).click()
        await give(page, KEY)
        await expect(shown).to_contain_text(says)
        await shown.get_by_role("button", name="Close").click()
        await page.reload()  # with the key that the tab keeps
        await foot.get_by_role("button", name=link).click()
        await expect(shown).to_contain_text(says)
        assert page.url.startswith(f"{server.url}/web/")


async def test_without_keys_the_documents_are_links(visit: Visit, echo_server: Server) -> None:
    visitor: Visitor = await visit(echo_server.url)
    await visitor.goto()
    await expect(visitor.page.get_by_role("heading", level=1)).to_have_text("meta game")
    foot = visitor.page.get_by_role("navigation", name="More")
    await expect(foot.get_by_role("link")).to_have_text(["API", "Schema", "Ready?"])
    await foot.get_by_role("link", name="API").click()
    await expect(visitor.page.get_by_role("heading", name="Metagame")).to_be_visible()


async def test_no_socket_is_tried_while_the_key_is_asked_for(visit: Visit) -> None:
    with run_server(METAGAME_API_KEYS=KEY) as server:
        visitor: Visitor = await visit(server.url)
        visitor.expected += ["401", "WebSocket connection to .* failed"]
        page = visitor.page
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        await page.request.post(f"{server.url}/sessions/mine/reset", headers={"X-API-Key": KEY})
        await page.clock.install()
        await visitor.goto("#session=mine")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.clock.run_for(10_000)  # what was under way before has failed
        before = len(sockets)
        assert before <= 2
        await page.clock.run_for(120_000)
        await expect(page.locator("#connection")).to_have_text("Reconnecting")
        assert len(sockets) == before
        await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        await expect(page.locator("#connection")).to_have_text("Refused")
        await page.clock.run_for(120_000)
        assert len(sockets) == before
        await expect(page.locator("#play-notice")).to_contain_text("An API key is needed")
        await page.get_by_role("button", name="Enter key").click()
        await give(page, KEY)
        await expect(page.locator("#connection")).to_contain_text("step 0")
        await step(page, "abc", 1)
