"""The built site: complete, and fetching nothing from elsewhere, in its files and in a browser."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect, sync_playwright

import metagame
from docsite.hooks import GENERATED
from metagame.errors import TABLE
from services.settings import Settings
from tests.servers import ROOT
from tests.wire.test_docs import QUIET, WAIT_MS

FOREIGN = re.compile(r"(https?:)?//", re.IGNORECASE)
LOADS = {"src", "srcset", "data", "poster", "action", "formaction", "background", "manifest", "xlink:href"}
"""Attributes whose address a browser fetches or sends to by itself; an `href` only of `link`, below."""


class Loaded(HTMLParser):
    """What a page has a browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self._styles = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._styles = tag == "style"
        for name, value in attrs:
            if name in LOADS or (name == "href" and tag in {"link", "use", "image", "base"}):
                self.addresses.append(value or "")
            elif name == "style":
                self._css(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._styles = False

    def handle_data(self, data: str) -> None:
        if self._styles:
            self._css(data)

    def _css(self, text: str) -> None:
        self.addresses += addresses_of_css(text)


def addresses_of_css(text: str) -> list[str]:
    """What a style sheet loads."""
    return re.findall(r"(?:url\(|@import\s+)\s*['\"]?([^'\")\s]+)", text)


def html(site: Path) -> list[Path]:
    found = sorted(site.rglob("*.html"))
    assert len(found) > 20
    return found


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for path in html(site):
        page = Loaded()
        page.feed(path.read_text())
        assert page.addresses
        assert [address for address in page.addresses if FOREIGN.match(address)] == [], path.relative_to(site)


def test_no_style_sheet_loads_anything_from_elsewhere(site: Path) -> None:
    sheets = sorted(site.rglob("*.css"))
    assert sheets
    for path in sheets:
        assert [one for one in addresses_of_css(path.read_text()) if FOREIGN.match(one)] == [], path


def test_everything_that_a_page_loads_is_there(site: Path) -> None:
    for path in html(site):
        page = Loaded()
        page.feed(path.read_text())
        local = [re.split(r"[?#]", one)[0] for one in page.addresses if not one.startswith(("data:", "#", "/"))]
        folder = path.parent
        assert [one for one in local if one and not (folder / one).exists()] == [], path.relative_to(site)


def test_every_page_of_the_folder_is_in_the_site(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        inside = page.relative_to(ROOT / "docs").with_suffix("")
        built = site / inside / "index.html" if inside.name != "index" else site / "index.html"
        assert built.is_file()


def test_everything_that_is_generated_is_asked_for_once() -> None:
    asked = [
        name
        for page in (ROOT / "docs").rglob("*.md")
        for name in re.findall(r"<!-- generated: (\S+) -->", page.read_text())
    ]
    assert sorted(asked) == sorted(GENERATED)


def test_the_pages_name_every_setting_every_error_and_every_name_of_the_client(site: Path) -> None:
    settings = (site / "reference/settings/index.html").read_text()
    assert [name for name in Settings.model_fields if f'id="METAGAME_{name.upper()}"' not in settings] == []
    errors = (site / "reference/errors/index.html").read_text()
    assert [kind.__name__ for kind in TABLE if f'id="{kind.__name__}"' not in errors] == []
    client = (site / "reference/client/index.html").read_text()
    missing = [
        name
        for name in metagame.__all__
        if name != "__version__" and f'id="{name}"' not in client and f"<code>{name}</code>" not in errors
    ]
    assert missing == []


def test_the_schema_of_the_site_is_the_servers(site: Path) -> None:
    schema = json.loads((site / "reference/openapi.json").read_text())
    assert schema["info"] == schema["info"] | {"title": "Metagame", "version": metagame.__version__}
    assert {"/reset", "/step", "/state", "/sessions/{session_id}"} <= schema["paths"].keys()


def test_the_pictures_are_drawn_in_the_pages_and_say_in_words_what_they_show(site: Path) -> None:
    page = (site / "concepts/index.html").read_text()
    assert page.count('class="picture" viewBox=') == len(list((ROOT / "docs/pictures").glob("*.svg"))) == 2
    for drawing in (ROOT / "docs/pictures").glob("*.svg"):
        text = drawing.read_text()
        assert 'role="img"' in text
        assert {"<title", "<desc"} <= set(re.findall(r"<(?:title|desc)\b", text))
        # Colours are the page's, so that it is seen on light and on dark.
        assert set(re.findall(r'(?:fill|stroke)="([^"]+)"', text)) <= {"currentColor", "none"}


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_without_internet_reads_searches_and_sees_the_pictures(address: str, scheme: str) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    elsewhere: list[str] = []
    mistakes: list[str] = []

    def let_through(route: Route) -> None:
        if route.request.url.startswith((address + "/", "data:", "blob:")):
            route.continue_()
        else:
            elsewhere.append(route.request.url)
            route.abort()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        page = browser.new_page(base_url=address, color_scheme=scheme)  # type: ignore[arg-type]
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.route("**/*", let_through)
        page.goto("/concepts/")
        expect(page.locator("figure.picture svg").first).to_be_visible()
        ink, paper = page.evaluate(
            "[getComputedStyle(document.querySelector('.picture text')).fill,"
            " getComputedStyle(document.body).backgroundColor]"
        )
        assert brightness(ink) < brightness(paper) if scheme == "light" else brightness(ink) > brightness(paper)
        page.goto("/")
        search = page.locator("input.md-search__input").first
        search.click()
        expect(page.locator(".md-search-result__meta").first).to_have_text("Type to start searching")
        search.press_sequentially("drain")  # it listens to keys
        expect(page.locator(".md-search-result__item").first).to_be_visible()
        browser.close()
    assert (elsewhere, mistakes) == ([], [])


def brightness(color: str) -> float:
    """Of `rgb(r, g, b)`; what is see-through is as bright as it would be alone."""
    return sum(map(float, re.findall(r"[\d.]+", color)[:3]))
