"""What people do by mistake in the page costs nothing: keys pressed too often, wrong addresses, answers lost."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from playwright.async_api import Page, WebSocketRoute, expect

from tests.servers import Server
from tests.web.conftest import Visit, Visitor
from tests.web.test_play import stands, start, step

pytestmark = pytest.mark.anyio
STEP = {"action": {"message": "theirs"}}


async def opened(visit: Visit, server: Server) -> Visitor:
    """A page in an episode, whose clock stands still unless a test moves it."""
    visitor: Visitor = await visit(server.url)
    await visitor.page.clock.install(time=1_800_000_000)
    await visitor.goto()
    await start(visitor.page, episode_id="one")
    await visitor.page.clock.pause_at(1_800_000_100)
    return visitor


@pytest.mark.parametrize("how", ["Enter", "the button"])
async def test_who_sends_a_message_three_times_quickly_has_sent_it_once(
    echo_server: Server, visit: Visit, how: str
) -> None:
    visitor = await opened(visit, echo_server)
    page = visitor.page
    await page.get_by_label("Message").fill("abc")
    for _ in range(3):
        await page.clock.run_for(200)
        if how == "Enter":
            await page.get_by_label("Message").press("Enter")
        else:
            await page.get_by_role("button", name="Send step").click()
        await expect(page.locator("#stat-step")).to_have_text("1")
        await expect(page.locator("#act-button")).to_be_enabled()
    await page.get_by_label("Message").fill("abcd")  # typed anew, so it is meant, however quickly
    await page.get_by_label("Message").press("Enter")
    await expect(page.locator("#stat-step")).to_have_text("2")
    assert await stands(echo_server.url, visitor.session_id) == ("one", 2)


async def test_a_message_may_still_be_empty(echo_server: Server, visit: Visit) -> None:
    visitor = await opened(visit, echo_server)
    page = visitor.page
    await page.get_by_label("Message").press("Enter")
    await expect(page.locator("#stat-step")).to_have_text("1")
    await page.clock.run_for(1_000)
    await page.get_by_label("Message").press("Enter")
    await expect(page.locator("#stat-step")).to_have_text("2")
    await page.clock.run_for(1_000)
    await page.get_by_role("button", name="Send step").click()
    await expect(page.locator("#stat-step")).to_have_text("3")
    await expect(page.locator("#history tr").first).to_contain_text("(empty)")


async def test_a_key_that_is_held_down_sends_once(echo_server: Server, visit: Visit) -> None:
    visitor = await opened(visit, echo_server)
    page = visitor.page
    await page.get_by_label("Message").fill("abc")
    await page.get_by_label("Message").focus()
    await page.keyboard.down("Enter")
    await expect(page.locator("#stat-step")).to_have_text("1")
    for _ in range(3):
        await page.clock.run_for(1_000)  # a keyboard that is set to repeat slowly
        await page.keyboard.down("Enter")
    await page.keyboard.up("Enter")
    await step(page, "abcd", 2)
    assert await stands(echo_server.url, visitor.session_id) == ("one", 2)


async def test_a_session_that_somebody_ends_while_the_page_waits_is_lost_loudly_by_itself(
    echo_server: Server, visit: Visit
) -> None:
    visitor: Visitor = await visit(echo_server.url)
    page = visitor.page
    await visitor.goto()
    await start(page, episode_id="one")
    frames = await page.locator("#frames li").count()
    async with httpx.AsyncClient(base_url=echo_server.url, trust_env=False) as client:
        assert (await client.post(f"/sessions/{visitor.session_id}/step", json=STEP)).status_code == 200
        await expect(page.locator("#stat-step")).to_have_text("1")  # what others do is seen as well
        assert frames == await page.locator("#frames li").count() > 0  # that the page asks is no frame of anybody's
        assert (await client.delete(f"/sessions/{visitor.session_id}")).status_code == 204
    await expect(page.get_by_role("alert").filter(has_text="This session is lost")).to_be_visible()


class Held:
    """The page's sockets, on which the answer to the next step can be held back, and lost."""

    def __init__(self) -> None:
        self.holding = False
        self.held = asyncio.Event()
        self._answers: list[tuple[WebSocketRoute, str | bytes]] = []

    async def install(self, page: Page) -> None:
        await page.route_web_socket("**/ws", self._serve)

    def _serve(self, socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def answer(message: str | bytes) -> None:
            if self.holding and '"type":"observation"' in str(message):
                self._answers.append((socket, message))
                self.held.set()
            else:
                socket.send(message)

        server.on_message(answer)

    def give(self) -> None:
        """What was held back arrives."""
        self.holding = False
        for socket, message in self._answers:
            socket.send(message)

    async def lose(self) -> None:
        """The line breaks in its place."""
        self.holding = False
        for socket, _ in self._answers:
            await socket.close(code=1012)


async def under_way(visit: Visit, server: Server, message: str) -> tuple[Visitor, Held]:
    """A page with the answer to this message held back."""
    visitor: Visitor = await visit(server.url)
    page, line = visitor.page, Held()
    await line.install(page)
    await visitor.goto()
    await start(page, episode_id="one")
    line.holding = True
    await page.get_by_label("Message").fill(message)
    await page.get_by_label("Message").press("Enter")
    await line.held.wait()
    return visitor, line


async def test_a_message_that_is_written_while_a_step_is_under_way_is_neither_sent_nor_wiped(
    echo_server: Server, visit: Visit
) -> None:
    visitor, line = await under_way(visit, echo_server, "abc")
    page = visitor.page
    await page.get_by_label("Message").fill("next")
    for _ in range(3):
        await page.get_by_label("Message").press("Enter")
    line.give()
    await expect(page.locator("#stat-step")).to_have_text("1")
    await expect(page.get_by_label("Message")).to_have_value("next")
    await page.get_by_role("button", name="Send step").click()
    await expect(page.locator("#stat-step")).to_have_text("2")
    assert await stands(echo_server.url, visitor.session_id) == ("one", 2)


async def test_a_step_whose_answer_is_no_longer_kept_is_said_to_be_done_and_is_not_done_again(
    echo_server: Server, visit: Visit
) -> None:
    """Its answer was lost on the way, and somebody stepped the session before the page could ask again."""
    visitor, line = await under_way(visit, echo_server, "mine")
    page = visitor.page
    async with httpx.AsyncClient(base_url=echo_server.url, trust_env=False) as client:
        theirs = await client.post(f"/sessions/{visitor.session_id}/step", json=STEP)
    assert theirs.status_code == 200
    await line.lose()
    await expect(page.locator("#frames .tag")).to_have_text("again")
    notice = page.locator("#play-notice")
    await expect(notice).to_contain_text("This was done before")
    await expect(notice).to_contain_text("committed as step 1")
    await expect(notice).to_contain_text("It stands at step 2 now")
    await expect(page.locator("#stat-step")).to_have_text("2")
    await expect(page.get_by_label("Message")).to_have_value("")
    assert await stands(echo_server.url, visitor.session_id) == ("one", 2)
    await step(page, "on", 3)
    await expect(notice).to_be_hidden()


async def test_what_was_said_of_an_address_goes_when_another_is_opened(echo_server: Server, visit: Visit) -> None:
    visitor: Visitor = await visit(echo_server.url)
    page = visitor.page
    notice = page.locator("#play-notice")
    await page.request.post(f"{echo_server.url}/sessions/found/reset")
    for fragment in ("#session=found", "#play"):
        await visitor.goto("#session=a b")
        await expect(notice).to_contain_text("The address names no session")
        await visitor.goto(fragment)
        await expect(notice).to_be_hidden()
        if fragment != "#play":
            await expect(page.locator("#connection")).to_contain_text("Resumed")
    await visitor.goto("#session=a b")
    await expect(notice).to_contain_text("The address names no session")
    await start(page)
    await expect(notice).to_be_hidden()
    await visitor.goto("#session=never-made")
    await expect(notice).to_contain_text("This session is lost")
    await visitor.goto("#session=found")
    await expect(page.locator("#connection")).to_contain_text("step 0")
    await expect(notice).to_be_hidden()


async def test_a_session_that_was_ended_leaves_the_keyboard_at_the_next_episode(
    echo_server: Server, visit: Visit
) -> None:
    visitor: Visitor = await visit(echo_server.url)
    page = visitor.page
    await visitor.goto()
    await start(page)
    await page.get_by_role("button", name="End session").click()
    await page.get_by_role("dialog").get_by_role("button", name="End session").click()
    await expect(page.locator("#connection")).to_have_text("No session yet")
    await expect(page.get_by_label("Seed")).to_be_focused()
