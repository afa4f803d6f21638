"""The page's files over HTTP: how they are sent, what they may do, and that they are whole."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.surfaces import static_files
from tests.servers import ROOT, Server, run_server

STATIC = ROOT / "services" / "surfaces" / "static"
FILES = sorted(path.name for path in STATIC.iterdir())
SOURCES = {name: (STATIC / name).read_text() for name in FILES}
FIRST_PAINT_BYTES = 45_000
"""Everything that the page loads, as it goes over the wire."""


@pytest.fixture(scope="module")
def client(echo_server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=echo_server.url, trust_env=False) as one:
        yield one


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/web"])
def test_the_root_leads_to_the_page_whatever_a_proxy_puts_before_it(
    client: httpx.Client, path: str, method: str
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["location"]) == (307, "web/")
    page = client.request(method, path, follow_redirects=True)
    assert (page.status_code, page.url.path) == (200, "/web/")


@pytest.mark.parametrize("name", ["", *FILES])
def test_every_file_is_sent_whole_with_its_type_and_its_limits(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/web/{name}")
    assert answer.status_code == 200
    assert answer.content == (STATIC / (name or "index.html")).read_bytes()
    kind = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert answer.headers["content-type"].partition(";")[0] == kind[Path(name or "index.html").suffix]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    assert "set-cookie" not in answer.headers
    policy = dict(one.split(" ", 1) for one in answer.headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        **dict.fromkeys(("script-src", "style-src", "connect-src", "img-src"), "'self'"),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self' https://huggingface.co https://*.huggingface.co",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_a_browser_that_has_a_file_is_told_so_until_the_file_is_another(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tag = client.get("/web/main.js").headers["etag"]
    for known in (tag, f'"another", {tag}', tag.removeprefix("W/"), "*"):
        answer = client.get("/web/main.js", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert client.get("/web/main.js", headers={"If-None-Match": '"another"'}).status_code == 200
    (tmp_path / "main.js").write_text("// of the next release")
    monkeypatch.setattr(static_files, "_FOLDER", tmp_path)
    assert static_files.load.__wrapped__("main.js").tag != tag


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("identity", False), ("gzip;q=0", False), ("", False)],
)
def test_a_file_is_compressed_for_whoever_takes_that(client: httpx.Client, accepted: str, compressed: bool) -> None:
    with client.stream("GET", "/web/page.css", headers={"Accept-Encoding": accepted}) as answer:
        raw = b"".join(answer.iter_raw())
    assert (answer.headers.get("content-encoding") == "gzip") is compressed
    assert answer.headers["vary"] == "Accept-Encoding"
    assert (gzip.decompress(raw) if compressed else raw) == (STATIC / "page.css").read_bytes()


def test_the_whole_page_is_small(client: httpx.Client) -> None:
    sent = sum(
        int(client.head(f"/web/{name}", headers={"Accept-Encoding": "gzip"}).headers["content-length"])
        for name in FILES
    )
    assert sent < FIRST_PAINT_BYTES


@pytest.mark.parametrize(
    "path",
    ["/web/none.js", "/web/static", "/web/%2e%2e", "/web/..%2fweb.py", "/web/a/b", "/web/web.py"],
)
def test_what_is_no_file_of_the_page_is_not_found(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found", "code": "NOT_FOUND"})


@pytest.mark.parametrize("path", ["/", "/web", "/web/", "/web/main.js"])
def test_files_are_only_read(client: httpx.Client, path: str) -> None:
    answer = client.post(path)
    assert (answer.status_code, answer.json()["code"]) == (405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize("variable", ["METAGAME_WEB", "ENABLE_WEB_INTERFACE"])
def test_without_the_page_there_is_none_of_its_paths(variable: str) -> None:
    with run_server(**{variable: "false"}) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        for path in ("/", "/web", "/web/", "/web/main.js", "/web/metadata", "/web/state"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found", "code": "NOT_FOUND"})
        for path in ("/web/reset", "/web/step"):
            assert client.post(path, json={}).status_code == 404


def test_production_has_the_page_and_its_metadata() -> None:
    with run_server(METAGAME_MODE="production") as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        for path in ("/web/", "/web/main.js", "/web/metadata"):
            assert client.get(path).status_code == 200


def test_nothing_in_the_files_comes_from_elsewhere() -> None:
    named = {url for text in SOURCES.values() for url in re.findall(r"(?:https?:)?//[\w.-]+\.\w{2,}[^\s\"'`)]*", text)}
    assert named <= {"http://www.w3.org/2000/svg"}


def test_the_page_has_no_inline_script_or_style_and_loads_only_what_is_there() -> None:
    elements = _Elements()
    elements.feed(SOURCES["index.html"])
    assert [
        name for _, attributes in elements.found for name in attributes if name.startswith("on") or name == "style"
    ] == []
    assert not re.search(r"<style|<script(?![^>]* src=)", SOURCES["index.html"])
    loaded = {
        attributes.get("src") or attributes.get("href")
        for tag, attributes in elements.found
        if tag in {"script", "link"}
    }
    imported = {
        name for text in SOURCES.values() for name in re.findall(r'^import .* from "\./(.+)";$', text, re.MULTILINE)
    }
    assert loaded | imported | {"index.html"} == set(FILES)
    preloaded = {attributes["href"] for tag, attributes in elements.found if attributes.get("rel") == "modulepreload"}
    assert preloaded == imported


def test_every_element_that_the_scripts_ask_for_is_in_the_page() -> None:
    elements = _Elements()
    elements.feed(SOURCES["index.html"])
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    asked = {name for text in SOURCES.values() for name in re.findall(r'byId\("([\w-]+)"\)', text)}
    assert len(asked) > 50
    assert asked <= set(ids)
    named = {
        name
        for _, attributes in elements.found
        for attribute in ("for", "aria-labelledby", "aria-describedby")
        for name in (attributes.get(attribute) or "").split()
    }
    assert named <= set(ids)


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
