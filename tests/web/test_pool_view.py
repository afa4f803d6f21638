"""The pool in the page: its numbers, its sessions, and who may see them."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.balancer.conftest import Balanced
from tests.survival.conftest import Faulty, Pool
from tests.survival.workers import until
from tests.web.conftest import Visit, Visitor
from tests.web.pools import answer_with, pool_answer
from tests.web.test_access import check
from tests.web.test_play import start, step

pytestmark = pytest.mark.anyio


async def open_pool(visit: Visit, url: str, answers: Any = pool_answer, **options: Any) -> Visitor:
    visitor: Visitor = await visit(url, **options)
    await answer_with(visitor.page, answers)
    await visitor.goto("#pool")
    return visitor


async def test_the_pools_numbers_are_shown_and_drawn(balanced: Balanced, visit: Visit) -> None:
    page = (await open_pool(visit, balanced.url)).page
    await expect(page.locator("#pool-state")).to_have_text("Live")
    for name, text in {
        "total": "4,215",
        "max": "of 10,000",
        "attached": "3,315",
        "detached": "900",
        "p50": "0.82",
        "p999": "12.3",
        "errors": "38",
    }.items():
        await expect(page.locator(f"#pool-{name}")).to_have_text(text)
    await expect(page.locator("#pool-codes")).to_contain_text("session error31")
    await expect(page.locator("#workers-count")).to_have_text("1 of 3 ready")
    rows = page.locator("#workers tr")
    await expect(rows.nth(1)).to_contain_text("draining")
    await expect(rows.nth(2)).to_contain_text("for 11 s")
    await expect(rows.nth(0)).to_contain_text("34 %")
    await expect(rows.nth(0)).to_contain_text("68 MiB")
    await expect(page.locator("#redis tr").nth(0)).to_contain_text("each write")
    await expect(page.locator("#redis tr").nth(1)).to_contain_text("down")
    await expect(page.locator("#pool-total")).to_have_text("4,220")  # the next answer
    assert re.fullmatch(r"M[\d.]+ [\d.]+(L[\d.]+ [\d.]+)+", await drawn(page, "steps"))


async def drawn(page: Any, chart: str) -> str:
    path: str = await page.locator(f"#chart-{chart} .line").first.get_attribute("d")
    return path


async def test_a_pool_in_memory_says_that_there_is_no_redis(balanced: Balanced, visit: Visit) -> None:
    page = (await open_pool(visit, balanced.url, lambda turn: pool_answer(turn, store="memory", redis=[]))).page
    await expect(page.locator("#redis-none")).to_be_visible()
    await expect(page.locator("#redis-box")).to_be_hidden()


async def test_what_was_not_measured_is_a_dash(balanced: Balanced, visit: Visit) -> None:
    none = dict.fromkeys(("p50", "p90", "p99", "p99.9"))
    page = (await open_pool(visit, balanced.url, lambda turn: pool_answer(turn, latency_ms=none))).page
    await expect(page.locator("#pool-state")).to_have_text("Live")
    await expect(page.locator("#pool-p99")).to_have_text("\N{EN DASH}")


async def test_who_is_no_operator_is_told_what_to_do(balanced: Balanced, visit: Visit) -> None:
    refusal = {"detail": "The pool is for operators: ask from this machine, or set API_KEYS.", "code": "FORBIDDEN"}
    visitor = await open_pool(visit, balanced.url, lambda _turn: (403, refusal))
    visitor.expected.append("403")
    await expect(visitor.page.locator("#pool-notice")).to_contain_text("For operators only")
    await expect(visitor.page.locator("#pool-notice")).to_contain_text("ask from this machine")
    await expect(visitor.page.locator("#pool-live")).to_be_hidden()


async def test_a_server_without_a_pool_view_is_no_mistake(balanced: Balanced, visit: Visit) -> None:
    visitor = await open_pool(visit, balanced.url, lambda _turn: (404, {"detail": "Not Found", "code": "NOT_FOUND"}))
    visitor.expected.append("404")
    await expect(visitor.page.locator("#pool-notice")).to_contain_text("This server has no pool view")


async def test_a_pool_that_does_not_answer_is_asked_again(balanced: Balanced, visit: Visit) -> None:
    away = (503, {"detail": "No worker is ready.", "code": "SESSION_ERROR"})
    visitor = await open_pool(visit, balanced.url, lambda turn: away if turn == 1 else pool_answer(turn))
    visitor.expected.append("503")
    await expect(visitor.page.locator("#pool-notice")).to_contain_text("No worker is ready.")
    await expect(visitor.page.locator("#pool-notice")).to_contain_text("(503 SESSION_ERROR)")
    await expect(visitor.page.locator("#pool-notice")).to_contain_text("Asked since")
    await expect(visitor.page.locator("#pool-live")).to_be_hidden()
    await expect(visitor.page.locator("#pool-state")).to_have_text("Live")
    await expect(visitor.page.locator("#pool-notice")).to_be_hidden()
    await expect(visitor.page.locator("#pool-live")).to_be_visible()


CLOCK = r"\d\d:\d\d:\d\d"


async def test_of_a_pool_that_stops_answering_the_last_figures_stay_marked_as_old(
    balanced: Balanced, visit: Visit, artifacts: Path
) -> None:
    away = (503, {"detail": "No worker is ready.", "code": "SESSION_ERROR"})
    answering = True
    visitor = await open_pool(visit, balanced.url, lambda _turn: pool_answer(1) if answering else away)
    visitor.expected.append("503")
    page = visitor.page
    await expect(page.locator("#pool-state")).to_have_text("Live")
    answering = False
    await expect(page.locator("#pool-state")).to_have_text("No answer")
    notice = page.locator("#pool-notice")
    says = rf"No worker is ready\. \(503 SESSION_ERROR\) The figures below are as of {CLOCK}\."
    await expect(notice).to_contain_text(re.compile(says))
    for old in ("#pool-tiles", "#workers-box", "#redis-box"):
        await expect(page.locator(old)).to_have_class(re.compile(r"\bold\b"))
    await expect(page.locator("#pool-total")).to_have_text("4,215")
    await check(page, artifacts / "pool-old-wide-light")
    answering = True
    await expect(page.locator("#pool-state")).to_have_text("Live")
    await expect(notice).to_be_hidden()
    await expect(page.locator(".old")).to_have_count(0)


@pytest.mark.parametrize("how", ["hangs", "is gone"])
async def test_without_its_redis_a_worker_says_so_and_since_when(
    faulty: Faulty, pool: Pool, visit: Visit, artifacts: Path, how: str
) -> None:
    visitor: Visitor = await visit(faulty.worker.url)
    page = visitor.page
    await page.request.post(f"{faulty.worker.url}/sessions/rollout-7/reset")
    await visitor.goto("#pool")
    await expect(page.locator("#pool-state")).to_have_text("Live")
    total = await page.locator("#pool-total").inner_text()
    await expect(page.locator("#sessions tr")).not_to_have_count(0)
    with ExitStack() as outage:
        if how == "hangs":
            outage.enter_context(pool.redis.asleep())
        else:
            faulty.redis.go_away()
            outage.callback(faulty.redis.come_back)
        await says_what_is_known_without_redis(page, total)
        visitor.expected.append("503")
        await check(page, artifacts / f"pool-without-redis-{how[:4]}")
    await expect(page.locator("#pool-state")).to_have_text("Live")
    await expect(page.locator("#pool-notice")).to_be_hidden()
    await page.get_by_role("button", name="Refresh").click()
    await expect(page.locator("#sessions-said")).to_contain_text("on this page")
    await expect(page.locator(".old")).to_have_count(0)
    await page.request.delete(f"{faulty.worker.url}/sessions/rollout-7")


async def says_what_is_known_without_redis(page: Page, total: str) -> None:
    await expect(page.locator("#pool-state")).to_have_text("Store away")
    notice = page.locator("#pool-notice")
    await expect(notice).to_contain_text("The session store cannot be reached")
    await expect(notice).to_contain_text(re.compile(rf"The figures below are as of {CLOCK}\."))
    await expect(page.locator("#pool-total")).to_have_text(total)
    await expect(page.locator("#workers tr")).not_to_have_count(0)
    await expect(page.locator("#redis tr")).to_contain_text(["down"])
    await page.get_by_role("button", name="Refresh").click()
    await expect(page.locator("#sessions-said")).to_contain_text(re.compile(rf"cannot be reached.* as of {CLOCK}\."))
    await expect(page.locator("#sessions tr")).not_to_have_count(0)


async def test_who_may_not_see_the_pool_is_told_once_and_sees_it_after_all_when_allowed(
    balanced: Balanced, visit: Visit
) -> None:
    refusal = (403, {"detail": "This is for operators only: send `X-API-Key: KEY`.", "code": "FORBIDDEN"})
    visitor = await open_pool(visit, balanced.url, lambda turn: refusal if turn == 1 else pool_answer(turn))
    visitor.expected.append("403")
    page = visitor.page
    await expect(page.locator("#pool-notice code")).to_have_text("X-API-Key: KEY")
    await expect(page.locator("#sessions-box")).to_be_hidden()
    await page.get_by_role("button", name="Try again").click()
    await expect(page.locator("#sessions-box")).to_be_visible()
    await expect(page.locator("#pool-state")).to_have_text("Live")


@pytest.mark.parametrize("way", ["Inspect", "End"])
async def test_who_ended_a_session_goes_on_at_the_next_row(balanced: Balanced, visit: Visit, way: str) -> None:
    async with httpx.AsyncClient(base_url=balanced.url, trust_env=False) as client:
        for item in (await client.get("/sessions?limit=1000")).json()["sessions"]:
            await client.delete(f"/sessions/{item['session_id']}")
        for number in range(3):
            await client.post(f"/sessions/rollout-{number}/reset")
    visitor = await open_pool(visit, balanced.url)
    visitor.expected.append("404")
    page = visitor.page
    rows = page.locator("#sessions tr")
    for at, left in ((1, 2), (1, 1), (0, 0)):
        await expect(rows).to_have_count(left + 1)
        await rows.nth(at).get_by_role("button", name=way).focus()
        await page.keyboard.press("Enter")
        if way == "Inspect":
            await page.get_by_role("dialog", name="Session").get_by_role("button", name="End session").click()
        await page.get_by_role("dialog", name="End this session?").get_by_role("button", name="End session").click()
        await expect(rows).to_have_count(left)
        if left > 0:
            next_row = rows.nth(min(at, left - 1))
            await expect(next_row.get_by_role("button", name="Inspect")).to_be_focused()
        else:
            await expect(page.get_by_role("heading", name="All sessions")).to_be_focused()


async def test_a_key_is_asked_for_kept_in_the_tab_and_sent(balanced: Balanced, visit: Visit) -> None:
    visitor: Visitor = await visit(balanced.url)
    visitor.expected.append("401")
    page = visitor.page
    sent: list[str | None] = []

    async def answer(route: Any) -> None:
        sent.append(route.request.headers.get("x-api-key"))
        if sent[-1] == "right":
            await route.fulfill(json=pool_answer(len(sent)))
        else:
            await route.fulfill(status=401, json={"detail": "A key is needed.", "code": "UNAUTHORIZED"})

    await page.route("**/pool", answer)
    await visitor.goto("#pool")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("This server wants an API key")
    await dialog.get_by_label("API key").fill("wrong")
    await dialog.get_by_role("button", name="Use key").click()
    await expect(dialog).to_contain_text("does not take this API key")
    await dialog.get_by_label("API key").fill("right")
    await page.keyboard.press("Enter")
    await expect(page.locator("#pool-state")).to_have_text("Live")
    assert sent[:3] == [None, "wrong", "right"]
    await page.reload()
    await expect(page.locator("#pool-state")).to_have_text("Live")
    assert "right" not in page.url


async def test_who_has_no_key_is_told_and_asked_again_on_request(balanced: Balanced, visit: Visit) -> None:
    visitor = await open_pool(visit, balanced.url, lambda _turn: (401, {"detail": "A key.", "code": "UNAUTHORIZED"}))
    visitor.expected.append("401")
    await visitor.page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await expect(visitor.page.locator("#pool-notice")).to_contain_text("An API key is needed")
    await visitor.page.get_by_role("button", name="Enter key").click()
    await expect(visitor.page.get_by_role("dialog")).to_be_visible()


async def test_sessions_are_paged_sought_looked_at_and_ended(balanced: Balanced, visit: Visit) -> None:
    async with httpx.AsyncClient(base_url=balanced.url, trust_env=False) as client:
        for item in (await client.get("/sessions?limit=1000")).json()["sessions"]:
            await client.delete(f"/sessions/{item['session_id']}")
        for number in range(120):
            await client.post(f"/sessions/rollout-{number:03}/reset", json={"episode_id": f"episode-{number:03}"})
        visitor = await open_pool(visit, balanced.url)
        page = visitor.page
        rows = page.locator("#sessions tr")
        seen: set[str] = set()
        while True:
            await expect(page.locator("#sessions-box")).not_to_have_attribute("aria-busy", "true")
            seen |= set(await page.locator("#sessions th code").all_inner_texts())
            if await page.get_by_role("button", name="Next").is_disabled():
                break
            await page.get_by_role("button", name="Next").click()
        assert seen == {f"rollout-{number:03}" for number in range(120)}
        await page.get_by_role("button", name="Previous").click()

        await page.get_by_label("Search by session or episode id").fill("EPISODE-11")
        await page.keyboard.press("Enter")
        await expect(page.locator("#sessions-said")).to_have_text("10 found in 120 sessions")
        await page.get_by_label("Search by session or episode id").fill("rollout-042")
        await page.keyboard.press("Enter")
        await expect(rows).to_have_count(1)

        await page.get_by_role("button", name="Inspect rollout-042").click()
        inspected = page.get_by_role("dialog")
        await expect(inspected).to_contain_text("episode-042")
        await inspected.get_by_role("button", name="End session").click()
        await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        assert (await client.get("/sessions/rollout-042")).status_code == 200
        await page.get_by_role("button", name="End rollout-042").click()
        await page.get_by_role("dialog").get_by_role("button", name="End session").click()
        await expect(rows).to_have_count(0)
        visitor.expected.append("404")
        assert (await client.get("/sessions/rollout-042")).status_code == 404
        for number in range(120):
            await client.delete(f"/sessions/rollout-{number:03}")


async def test_a_session_of_the_table_is_opened_in_play_and_the_way_back_is_kept(
    balanced: Balanced, visit: Visit
) -> None:
    async with httpx.AsyncClient(base_url=balanced.url, trust_env=False) as client:
        await client.post("/sessions/rollout-7/reset", json={"episode_id": "seven"})
        await client.post("/sessions/rollout-7/step", json={"action": {"message": "abc"}})
        visitor = await open_pool(visit, balanced.url)
        page = visitor.page
        await page.get_by_label("Search by session or episode id").fill("rollout-7")
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Inspect rollout-7").click()
        await page.get_by_role("dialog").get_by_role("button", name="Open in Play").click()
        await expect(page.locator("#connection")).to_have_text("Resumed, step 1")
        await step(page, "abc", 2)
        await page.get_by_role("link", name="Pool", exact=True).click()
        await expect(page.locator("#view-pool")).to_be_visible()
        await page.get_by_role("link", name="Play", exact=True).click()
        await expect(page.locator("#stat-step")).to_have_text("2")
        await client.delete("/sessions/rollout-7")


async def test_the_real_pool_counts_the_session_that_this_page_plays(balanced: Balanced, visit: Visit) -> None:
    async with httpx.AsyncClient(base_url=balanced.url, trust_env=False) as client:
        for item in (await client.get("/sessions?limit=1000")).json()["sessions"]:
            await client.delete(f"/sessions/{item['session_id']}")
    visitor: Visitor = await visit(balanced.url)
    page = visitor.page
    await visitor.goto()
    await start(page)
    for number in range(1, 6):
        await step(page, "abc", number)
    await page.get_by_role("link", name="Pool", exact=True).click()
    await expect(page.locator("#pool-state")).to_have_text("Live")
    await expect(page.locator("#pool-total")).to_have_text("1")
    await expect(page.locator("#pool-attached")).to_have_text("1")
    await expect(page.locator("#workers tr")).to_have_count(2)
    await expect(page.locator("#redis tr")).to_have_count(1)
    await until(lambda: _is_above(page, "#pool-steps", 4), "the steps counted")


async def _is_above(page: Any, locator: str, least: int) -> bool:
    text = (await page.locator(locator).inner_text()).replace(",", "")
    return text.isdecimal() and int(text) > least
