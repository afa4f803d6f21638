"""Everybody can use the page: axe finds nothing serious in it, at every size, light and dark; pictures for people."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.balancer.conftest import Balanced
from tests.web.conftest import PHONE, TABLET, WIDE, Visit, Visitor
from tests.web.pools import answer_with, pool_answer
from tests.web.test_play import start, step

pytestmark = pytest.mark.anyio
SIZES = {"phone": PHONE, "tablet": TABLET, "wide": WIDE}
SERIOUS = {"serious", "critical"}
MESSAGES = (
    *("Hello, World!", "Testing echo", "héé😀", "Final message", "a"),
    "A longer message, which says a little more than the others and so is worth more than they are.",
)


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=["light", "dark"])
def theme(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def check(page: Page, picture: Path) -> None:
    await page.evaluate("scrollTo(0, 0)")  # else what sticks to the top is in the picture's middle
    await page.screenshot(path=picture.with_suffix(".png"), full_page=True)
    await page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    found = await page.evaluate("axe.run()")
    assert len(found["passes"]) > 10
    serious = [
        (one["id"], [node["target"] for node in one["nodes"]])
        for one in found["violations"]
        if one["impact"] in SERIOUS
    ]
    assert serious == []
    assert "landmark-unique" not in {one["id"] for one in found["violations"]}
    wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, "the page scrolls sideways"


async def test_play_before_an_episode_in_one_and_after_a_loss(
    balanced: Balanced, visit: Visit, artifacts: Path, size: str, theme: str
) -> None:
    visitor: Visitor = await visit(balanced.url, size=SIZES[size], dark=theme == "dark")
    page = visitor.page
    await visitor.goto()
    await expect(page.get_by_role("heading", level=1)).to_have_text("meta game")
    await check(page, artifacts / f"play-start-{size}-{theme}")
    await start(page)
    for number, message in enumerate(MESSAGES, 1):
        await step(page, message, number)
    await page.reload()
    await expect(page.locator("#connection")).to_contain_text("Resumed")
    await step(page, "and on", len(MESSAGES) + 1)
    await page.locator("#frames summary").first.click()
    await check(page, artifacts / f"play-{size}-{theme}")
    await page.request.delete(f"{balanced.url}/sessions/{visitor.session_id}")
    await page.get_by_role("button", name="Send step").click()
    await expect(page.locator("#play-notice")).to_contain_text("This session is lost")
    await check(page, artifacts / f"play-lost-{size}-{theme}")


async def test_the_pool_and_its_dialogs(
    balanced: Balanced, visit: Visit, artifacts: Path, size: str, theme: str
) -> None:
    visitor: Visitor = await visit(balanced.url, size=SIZES[size], dark=theme == "dark")
    page = visitor.page
    await page.request.post(f"{balanced.url}/sessions/rollout-7/reset", data={"episode_id": "seven"})
    await page.request.post(f"{balanced.url}/reset")
    await page.clock.install()
    await answer_with(page, pool_answer)
    await visitor.goto("#pool")
    await expect(page.locator("#pool-state")).to_have_text("Live")
    for turn in range(2, 60):
        await page.clock.run_for(2_000)
        await expect(page.locator("#pool-total")).to_have_text(f"{4_210 + 5 * turn:,}")
    await check(page, artifacts / f"pool-{size}-{theme}")
    await page.get_by_label("Search by session or episode id").fill("rollout-7")
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Inspect rollout-7").click()
    await expect(page.get_by_role("dialog")).to_contain_text("seven")
    await check(page, artifacts / f"pool-inspect-{size}-{theme}")
    await page.get_by_role("dialog").get_by_role("button", name="End session").click()
    await check(page, artifacts / f"pool-end-{size}-{theme}")
    await page.get_by_role("dialog").get_by_role("button", name="End session").click()
    await expect(page.locator("#sessions tr")).to_have_count(0)
    visitor.expected.append("404")


async def test_a_long_text_is_in_reach_of_the_keyboard(balanced: Balanced, visit: Visit, artifacts: Path) -> None:
    visitor: Visitor = await visit(balanced.url)
    await visitor.goto()
    await start(visitor.page)
    await step(visitor.page, "word " * 1_000, 1)
    await check(visitor.page, artifacts / "play-long-wide-light")


async def test_the_theme_is_chosen_and_kept(balanced: Balanced, visit: Visit) -> None:
    visitor: Visitor = await visit(balanced.url)
    page = visitor.page
    await visitor.goto()
    light = await background(page)
    await page.get_by_label("Theme").select_option("dark")
    dark = await background(page)
    assert dark != light
    await page.reload()
    assert await background(page) == dark
    await page.get_by_label("Theme").select_option("auto")
    assert await background(page) == light


async def background(page: Page) -> Any:
    return await page.evaluate("getComputedStyle(document.body).backgroundColor")


async def test_nothing_jumps_while_an_episode_is_played(balanced: Balanced, visit: Visit) -> None:
    visitor: Visitor = await visit(balanced.url)
    page = visitor.page
    await visitor.goto()
    await start(page)
    await step(page, "first", 1)
    places = [await page.locator(name).bounding_box() for name in ("#act-button", "#stat-step", "#connection")]
    for number in range(2, 8):
        await step(page, "x" * 3 ** (number - 1), number)
        assert places == [
            await page.locator(name).bounding_box() for name in ("#act-button", "#stat-step", "#connection")
        ]


@pytest.mark.parametrize("width", [360, 390])
async def test_on_a_phone_a_session_is_ended_without_scrolling_sideways(
    balanced: Balanced, visit: Visit, artifacts: Path, width: int, theme: str
) -> None:
    visitor: Visitor = await visit(balanced.url, size=(width, 740), dark=theme == "dark")
    page = visitor.page
    for name in ("WWWWWWWWWWWWWWWW", "rollout-7-of-the-longer-names"):
        await page.request.post(f"{balanced.url}/sessions/{name}/reset")
    await visitor.goto("#pool")
    for name in ("WWWWWWWWWWWWWWWW", "rollout-…ames"):
        button = page.get_by_role("button", name=f"End {name}")
        await button.scroll_into_view_if_needed()
        box = await button.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width - 16
        assert box["height"] >= 24
    scroller = page.locator("#sessions-box .scroll")
    assert await scroller.evaluate("box => box.scrollLeft") == 0
    assert await scroller.evaluate("box => box.scrollWidth - box.clientWidth") == 0
    await expect(page.locator("#sessions")).to_contain_text("detached, step 0")
    await check(page, artifacts / f"pool-sessions-{width}-{theme}")
    await page.get_by_role("button", name="End WWWWWWWWWWWWWWWW").click()
    await page.get_by_role("dialog").get_by_role("button", name="End session").click()
    await expect(page.get_by_role("button", name="End WWWWWWWWWWWWWWWW")).to_have_count(0)
    await page.request.delete(f"{balanced.url}/sessions/rollout-7-of-the-longer-names")
