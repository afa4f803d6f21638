"""`/docs` in a real browser that can reach nothing but the server."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Page, Route, expect, sync_playwright

from tests.servers import Server

WAIT_MS = 15_000
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(slots=True)
class Browser:
    """A page, and what it asked of anybody but the server."""

    page: Page
    elsewhere: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser(echo_server: Server) -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        page = running.new_page(base_url=echo_server.url)
        page.set_default_timeout(WAIT_MS)
        opened = Browser(page)

        def let_through(route: Route) -> None:
            if route.request.url.startswith((echo_server.url + "/", "data:")):
                route.continue_()
            else:
                opened.elsewhere.append(route.request.url)
                route.abort()

        page.route("**/*", let_through)
        yield opened
        running.close()


def test_the_page_tries_out_a_reset_and_a_step_without_internet(browser: Browser) -> None:
    mistakes: list[str] = []
    browser.page.on("pageerror", lambda error: mistakes.append(str(error)))
    browser.page.goto("/docs")

    reset = try_out(browser.page, "environment", "/reset", "{}")
    assert '"echoed_message": "Meta Game environment ready!"' in reset
    # The reset set the cookie that names the session, so the step needs no name.
    step = try_out(browser.page, "environment", "/step", '{"action": {"message": "Hello, World!"}}')
    assert '"echoed_message": "Hello, World!"' in step
    assert '"reward": 1.3' in step

    assert browser.elsewhere == []
    assert mistakes == []


def try_out(page: Page, tag: str, path: str, body: str) -> str:
    """Send a request from the page by clicking; the answer's body as shown."""
    operation = page.locator(f"#operations-{tag}-{path.strip('/')}_{path.strip('/')}_post")
    operation.locator(".opblock-summary-control").first.click()
    operation.get_by_role("button", name="Try it out").click()
    operation.locator("textarea.body-param__text").fill(body)
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table .response").first
    expect(answer.locator(".response-col_status")).to_contain_text("200", timeout=WAIT_MS)
    return answer.locator(".response-col_description .highlight-code").first.inner_text()
