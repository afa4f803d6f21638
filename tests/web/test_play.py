"""Playing in the page, on two workers behind HAProxy, one of which dies."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Error, Page, expect

from tests.balancer.conftest import Balanced
from tests.survival.conftest import Faulty
from tests.survival.workers import Worker, running, until
from tests.web.conftest import Visit, Visitor

pytestmark = pytest.mark.anyio
SOCKET_BROKE = r"WebSocket connection to .* failed"
"""What the browser itself says of a worker that is gone."""


async def start(page: Page, **fields: str) -> None:
    for label, value in fields.items():
        await page.locator({"seed": "#seed", "episode_id": "#episode-id"}[label]).fill(value)
    await page.get_by_role("button", name="Start episode").click()
    await expect(page.locator("#stat-step")).to_have_text("0")


async def step(page: Page, message: str, number: int) -> None:
    await page.get_by_label("Message").fill(message)
    await page.get_by_label("Message").press("Enter")
    await expect(page.locator("#stat-step")).to_have_text(str(number))


async def holder(balanced: Balanced) -> Worker:
    """The worker that has the only open socket."""

    def only_one() -> str | None:
        """What the page loads besides is soon over."""
        names = [name for name, row in balanced.balancer.stats().items() if int(row["scur"]) > 0]
        return names[0] if len(names) == 1 else None

    name = await until(only_one, "one worker with an open connection")
    return balanced.workers[int(name[1:]) - 1]


async def stands(url: str, session_id: str) -> tuple[str, int]:
    async with httpx.AsyncClient(trust_env=False) as client:
        state = (await client.get(f"{url}/sessions/{session_id}/state")).json()
    return state["episode_id"], state["step_count"]


async def test_an_episode_is_played_and_every_frame_is_shown(balanced: Balanced, visit: Visit) -> None:
    visitor: Visitor = await visit(balanced.url)
    page = visitor.page
    await page.goto(f"{balanced.url}/")
    assert page.url == f"{balanced.url}/web/"
    await expect(page.get_by_role("heading", level=1)).to_have_text("meta game")
    await start(page, seed="7", episode_id="from the page")
    await step(page, "Hello, World!", 1)
    await expect(page.locator("#stat-reward")).to_have_text("1.3")
    await step(page, "abc", 2)
    await expect(page.locator("#stat-total")).to_have_text("1.6")
    await expect(page.locator("#seen")).to_contain_text("abc")
    await expect(page.locator("#history tr")).to_have_count(3)
    assert await stands(balanced.url, visitor.session_id) == ("from the page", 2)

    kinds = await page.locator("#frames .kind").all_inner_texts()
    words = [kind.split()[-1] for kind in reversed(kinds)]
    # On a busy machine Redis may be late; the request then went out again.
    answered = [pair for pair in zip(words[::2], words[1::2], strict=True) if pair[1] != "error"]
    assert answered == [("reset", "observation"), ("step", "observation"), ("step", "observation")]
    await page.locator("#frames summary").nth(1).click()
    await expect(page.locator("#frames pre").nth(1)).to_contain_text("request_id")
    shown = json.loads(await page.locator("#frames pre").nth(1).inner_text())
    assert shown["data"] == {"message": "abc"}
    assert shown["expect"] == {"episode_id": "from the page", "step_count": 1}
    assert len(shown["request_id"]) == 32


async def test_a_reload_goes_on_with_the_same_episode(balanced: Balanced, visit: Visit) -> None:
    visitor: Visitor = await visit(balanced.url)
    page = visitor.page
    await visitor.goto()
    await start(page, episode_id="one")
    await step(page, "abc", 1)
    await step(page, "abc", 2)
    named = visitor.session_id
    await page.reload()
    await expect(page.locator("#connection")).to_have_text("Resumed, step 2")
    assert visitor.session_id == named
    await expect(page.locator("#stat-total")).to_have_text("0.6")
    await expect(page.locator("#history tr")).to_have_count(4)  # and the mark of the reload
    await step(page, "abc", 3)
    assert await stands(balanced.url, named) == ("one", 3)


async def test_a_killed_worker_is_seen_and_costs_nothing(balanced: Balanced, visit: Visit) -> None:
    visitor: Visitor = await visit(balanced.url)
    visitor.expected.append(SOCKET_BROKE)
    page = visitor.page
    await visitor.goto()
    await start(page, episode_id="one")
    for number in range(1, 4):
        await step(page, "abc", number)
    killed = await holder(balanced)
    await asyncio.to_thread(killed.kill)
    await expect(page.locator("#connection")).to_have_text("Reconnected, step 3")
    await step(page, "abc", 4)
    await expect(page.locator("#connection")).not_to_have_text("Reconnected, step 3")
    await expect(page.locator("#stat-total")).to_have_text("1.2")
    await expect(page.locator("#history tr.reconnected")).to_have_count(1)
    assert await stands(balanced.url, visitor.session_id) == ("one", 4)
    await running(killed)


async def test_without_any_worker_the_page_says_so_and_goes_on_when_one_is_back(
    balanced: Balanced, visit: Visit, artifacts: Path
) -> None:
    visitor: Visitor = await visit(balanced.url)
    visitor.expected += [SOCKET_BROKE, "503"]
    page = visitor.page
    await visitor.goto()
    await start(page, episode_id="one")
    await step(page, "abc", 1)
    for worker in balanced.workers:
        await asyncio.to_thread(worker.kill)
    await page.get_by_label("Message").fill("sent while nobody was there")
    await page.get_by_role("button", name="Send step").click()
    await expect(page.locator("#play-notice")).to_contain_text("No worker is ready, and nothing was done.")
    await expect(page.get_by_role("button", name="Stop trying")).to_be_visible()
    await page.screenshot(path=artifacts / "play-away-wide-light.png", full_page=True)
    await running(*balanced.workers)
    await expect(page.locator("#connection")).to_have_text("Reconnected, step 2")
    await expect(page.locator("#history tr").nth(1)).to_contain_text("reconnected")
    await expect(page.locator("#frames .tag")).to_have_count(0)  # it was never sent before
    await expect(page.locator("#play-notice")).to_be_hidden()
    await page.screenshot(path=artifacts / "play-reconnected-wide-light.png", full_page=True)
    assert await stands(balanced.url, visitor.session_id) == ("one", 2)


async def test_a_worker_that_drains_hands_the_page_over(balanced: Balanced, visit: Visit) -> None:
    visitor: Visitor = await visit(balanced.url)
    visitor.expected.append(SOCKET_BROKE)
    page = visitor.page
    await visitor.goto()
    await start(page)
    await step(page, "abc", 1)
    leaving = await holder(balanced)
    leaving.send(signal.SIGTERM)
    await expect(page.locator("#connection")).to_have_text("Reconnected, step 1")
    await step(page, "abc", 2)
    assert await leaving.exit_code() == 0


async def test_a_step_whose_worker_died_before_it_answered_counts_once(faulty_first: Balanced, visit: Visit) -> None:
    both = faulty_first
    assert both.redis is not None
    redis = both.redis
    visitor: Visitor = await visit(both.url)
    visitor.expected.append(SOCKET_BROKE)
    page = visitor.page
    await visitor.goto()
    await start(page, episode_id="one")
    number = 0
    while await holder(both) is not both.workers[0]:
        await page.reload()
        await expect(page.locator("#connection")).to_contain_text("step 0")
    await step(page, "abc", number + 1)  # so that its worker has called the script before
    redis.hold_answer("commit")
    await page.get_by_label("Message").fill("abc")
    await page.get_by_role("button", name="Send step").click()
    await until(lambda: redis.held, "the commit")
    await asyncio.to_thread(both.workers[0].kill)
    await expect(page.locator("#stat-step")).to_have_text("2")
    await expect(page.locator("#stat-total")).to_have_text("0.6")
    assert await stands(both.url, visitor.session_id) == ("one", 2)
    await expect(page.locator("#frames .tag")).to_have_text("again")


async def test_a_frozen_worker_is_left_and_what_it_does_when_it_wakes_does_not_count(
    balanced: Balanced, visit: Visit
) -> None:
    visitor: Visitor = await visit(balanced.url)
    visitor.expected.append(SOCKET_BROKE)
    page = visitor.page
    await page.clock.install()
    await visitor.goto()
    await start(page, episode_id="one")
    await step(page, "abc", 1)
    frozen = await holder(balanced)
    frozen.send(signal.SIGSTOP)
    try:
        await page.get_by_label("Message").fill("abc")
        await page.get_by_role("button", name="Send step").click()
        await expect(page.locator("#act-button")).to_have_text("Sending")
        await page.clock.fast_forward(16_000)
        await expect(page.locator("#stat-step")).to_have_text("2")
        await expect(page.locator("#frames .tag")).to_have_text("again")
    finally:
        frozen.send(signal.SIGCONT)
    await balanced.all_up()
    await step(page, "abc", 3)
    assert await stands(balanced.url, visitor.session_id) == ("one", 3)


async def test_a_step_that_was_under_way_when_the_page_went_is_sent_again_by_the_next(
    faulty: Faulty, visit: Visit
) -> None:
    visitor: Visitor = await visit(faulty.worker.url)
    page = visitor.page
    await visitor.goto()
    await start(page, episode_id="one")
    await step(page, "abc", 1)
    faulty.redis.hold_answer("commit")
    await page.get_by_label("Message").fill("abc")
    await page.get_by_role("button", name="Send step").click()
    await until(lambda: faulty.redis.held, "the commit")
    reloading = asyncio.ensure_future(page.reload())
    faulty.redis.release()
    await reloading
    await expect(page.locator("#stat-step")).to_have_text("2")
    await expect(page.locator("#stat-total")).to_have_text("0.6")
    assert await stands(faulty.worker.url, visitor.session_id) == ("one", 2)


async def cut_off(faulty: Faulty, visit: Visit) -> Visitor:
    """A page whose second step is committed and not answered, since Redis is away from then on."""
    visitor: Visitor = await visit(faulty.worker.url)
    page = visitor.page
    await visitor.goto()
    await start(page, episode_id="one")
    await step(page, "abc", 1)
    faulty.redis.cut_answer("commit", stay_away=True)
    await page.get_by_label("Message").fill("abc")
    await page.get_by_role("button", name="Send step").click()
    return visitor


async def test_a_step_waits_for_redis_and_counts_once(faulty: Faulty, visit: Visit) -> None:
    visitor = await cut_off(faulty, visit)
    page = visitor.page
    await expect(page.locator("#connection")).to_have_text("Trying again")
    await expect(page.get_by_role("button", name="Stop trying")).to_be_visible()
    faulty.redis.come_back()
    await expect(page.locator("#stat-step")).to_have_text("2")
    assert await stands(faulty.worker.url, visitor.session_id) == ("one", 2)


async def test_who_stops_trying_is_told_where_the_session_stands(faulty: Faulty, visit: Visit) -> None:
    visitor = await cut_off(faulty, visit)
    page = visitor.page
    await page.get_by_role("button", name="Stop trying").click()
    faulty.redis.come_back()
    await expect(page.locator("#play-notice")).to_contain_text("The session moved")
    await expect(page.locator("#stat-step")).to_have_text("2")
    await expect(page.locator("#total-since")).to_have_text("since step 2")


async def test_a_link_opened_elsewhere_takes_the_session_and_the_first_page_says_so(
    balanced: Balanced, visit: Visit
) -> None:
    first: Visitor = await visit(balanced.url)
    await first.goto()
    await start(first.page, episode_id="one")
    await step(first.page, "abc", 1)
    second: Visitor = await visit(balanced.url)
    await second.goto(f"#session={first.session_id}")
    await expect(second.page.locator("#stat-step")).to_have_text("1")
    await expect(second.page.locator("#total-since")).to_have_text("since step 1")
    await step(second.page, "abcd", 2)
    await expect(second.page.locator("#stat-total")).to_have_text("0.4")
    await expect(first.page.locator("#play-notice")).to_contain_text("Another page has this session")
    await first.page.get_by_role("button", name="Take it back").click()
    await expect(first.page.locator("#stat-step")).to_have_text("2")
    await expect(first.page.locator("#play-notice")).to_contain_text("The session moved")
    await step(first.page, "abc", 3)
    await expect(second.page.locator("#play-notice")).to_contain_text("Another page has this session")


async def test_a_step_by_somebody_else_is_loud_and_costs_none(balanced: Balanced, visit: Visit) -> None:
    visitor: Visitor = await visit(balanced.url)
    page = visitor.page
    await visitor.goto()
    await start(page, episode_id="one")
    async with httpx.AsyncClient(base_url=balanced.url, trust_env=False) as client:
        await client.post(f"/sessions/{visitor.session_id}/step", json={"action": {"message": "theirs"}})
    await page.get_by_label("Message").fill("mine")
    await page.get_by_role("button", name="Send step").click()
    await expect(page.locator("#play-notice")).to_contain_text("it stands at step 1 now, and nothing was done")
    await expect(page.locator("#play-notice")).not_to_contain_text("false")
    await expect(page.get_by_label("Message")).to_have_value("mine")
    await page.get_by_role("button", name="Send step").click()
    await expect(page.locator("#stat-step")).to_have_text("2")


async def test_a_session_that_ended_is_lost_loudly_and_a_new_one_is_a_press_away(
    balanced: Balanced, visit: Visit
) -> None:
    visitor: Visitor = await visit(balanced.url)
    page = visitor.page
    await visitor.goto()
    await start(page)
    lost = visitor.session_id
    async with httpx.AsyncClient(base_url=balanced.url, trust_env=False) as client:
        await client.delete(f"/sessions/{lost}")
    await page.get_by_label("Message").fill("abc")
    await page.get_by_role("button", name="Send step").click()
    await expect(page.get_by_role("alert").filter(has_text="This session is lost")).to_be_visible()
    await expect(page.locator("#act-box")).to_be_hidden()
    await page.get_by_role("button", name="Start anew").click()
    await start(page)
    await step(page, "abc", 1)
    assert visitor.session_id != lost


@pytest.mark.parametrize("name", ["never-made", "a b", "x" * 129])
async def test_a_link_to_no_session_says_so(balanced: Balanced, visit: Visit, name: str) -> None:
    visitor: Visitor = await visit(balanced.url)
    await visitor.goto(f"#session={name}")
    says = "This session is lost" if name == "never-made" else "The address names no session"
    await expect(visitor.page.get_by_role("alert").filter(has_text=says)).to_be_visible()


async def test_ending_asks_first_and_then_the_session_is_gone(balanced: Balanced, visit: Visit) -> None:
    visitor: Visitor = await visit(balanced.url)
    page = visitor.page
    await visitor.goto()
    await start(page)
    ended = visitor.session_id
    await page.get_by_role("button", name="End session").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await step(page, "abc", 1)
    await page.get_by_role("button", name="End session").click()
    await page.get_by_role("dialog").get_by_role("button", name="End session").click()
    await expect(page.locator("#connection")).to_have_text("No session yet")
    assert "session=" not in page.url
    async with httpx.AsyncClient(base_url=balanced.url, trust_env=False) as client:
        assert (await client.get(f"/sessions/{ended}")).status_code == 404


async def test_the_link_to_the_session_is_copied(balanced: Balanced, visit: Visit) -> None:
    visitor: Visitor = await visit(balanced.url, permissions=["clipboard-read", "clipboard-write"])
    page = visitor.page
    await visitor.goto()
    await start(page)
    await page.get_by_role("button", name="Copy link").click()
    await expect(page.locator("#copy-link")).to_have_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == page.url


async def test_what_the_form_cannot_mean_is_said_at_the_field(balanced: Balanced, visit: Visit) -> None:
    visitor: Visitor = await visit(balanced.url)
    page = visitor.page
    await visitor.goto()
    for seed, says in (("-1", "a whole number from 0"), ("x", "a whole number"), (str(2**60), "2^53 - 1")):
        await page.get_by_label("Seed").fill(seed)
        await page.get_by_role("button", name="Start episode").click()
        await expect(page.locator("#seed-complaint")).to_contain_text(says)
        await expect(page.get_by_label("Seed")).to_be_focused()
        await expect(page.get_by_label("Seed")).to_have_attribute("aria-invalid", "true")
    await page.get_by_label("Seed").fill("")
    await start(page)
    too_long = "é" * 65_537
    await page.get_by_label("Message").fill(too_long)
    await page.get_by_role("button", name="Send step").click()
    await expect(page.locator("#act-message-complaint")).to_contain_text(
        "At most 65536 characters, and these are 65537"
    )
    await page.locator("#act-fields details summary").click()
    await page.get_by_label("Metadata").fill("[1]")
    await page.get_by_label("Message").fill("abc")
    await page.get_by_role("button", name="Send step").click()
    await expect(page.locator("#act-metadata-complaint")).to_have_text("Input should be a valid dictionary")
    await expect(page.locator("#stat-step")).to_have_text("0")
    await page.get_by_label("Metadata").fill("")
    await page.get_by_role("button", name="Send step").click()
    await expect(page.locator("#stat-step")).to_have_text("1")


async def test_nothing_but_the_pages_own_files_runs_in_it(balanced: Balanced, visit: Visit) -> None:
    visitor: Visitor = await visit(balanced.url)
    visitor.expected += ["Content Security Policy", "requires .Trusted"]
    await visitor.goto()
    for script in (
        "document.body.append(Object.assign(document.createElement('script'), {src: 'https://elsewhere.test/a.js'}))",
        "document.body.innerHTML = '<b>markup</b>'",
        "fetch('https://elsewhere.test/').then((answer) => answer.status)",
    ):
        with pytest.raises(Error):
            await visitor.page.evaluate(f"async () => {{ return await ({script}); }}")
    await visitor.page.evaluate("document.body.setAttribute('style', 'display: none')")
    await expect(visitor.page.locator("#main")).to_be_visible()


async def test_everything_is_in_reach_of_the_keyboard(balanced: Balanced, visit: Visit) -> None:
    visitor: Visitor = await visit(balanced.url)
    page = visitor.page
    await visitor.goto()
    await expect(page.get_by_role("heading", level=1)).to_have_text("meta game")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#main")).to_be_focused()
    for _ in range(12):
        await page.keyboard.press("Tab")
        if await page.get_by_label("Seed").evaluate("field => field === document.activeElement"):
            break
    await page.keyboard.type("7")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Message")).to_be_focused()
    await page.keyboard.type("first")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("line")
    await page.keyboard.press("Enter")
    await expect(page.locator("#stat-step")).to_have_text("1")
    await expect(page.get_by_label("Message")).to_be_focused()
    await expect(page.locator("#announcer")).to_have_text("Step 1, reward 1")
    await expect(page.locator("#seen dd").first).to_have_text("first\nline")
