"""Behind another proxy, at a path of its own: a real HAProxy that strips the path, and one that does not."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Route, expect, sync_playwright

from metagame import AsyncMetaGameEnv, MetaGameAction
from metagame.cli.processes import child
from services.app import create_app
from services.settings import OWN_SEGMENTS, Settings, SettingsError, load_settings
from tests.redis_servers import free_port
from tests.servers import Server, run_server
from tests.survival.stock import StockClients, interpreter, stock_clients
from tests.wire.test_docs import QUIET, WAIT_MS, try_out

pytestmark = pytest.mark.anyio
PREFIX = "/envs/metagame"
STRIPS = rf"    http-request replace-path {PREFIX}(/)?(.*) /\2"
ENDS_TLS = "    http-request set-header X-Forwarded-Proto https"
NAMINGS = ("by base_url", "by path")


@contextmanager
def proxy(server: Server, folder: Path, *rules: str) -> Iterator[str]:
    """A HAProxy before the server, with these rules; its URL."""
    port = free_port()
    configuration = folder / "haproxy.cfg"
    lines = [
        "defaults",
        "    mode http",
        "    timeout connect 5s",
        "    timeout client 60s",
        "    timeout server 60s",
        "listen proxy",
        f"    bind 127.0.0.1:{port}",
        f"    http-request deny deny_status 421 unless {{ path -m beg {PREFIX}/ }}",
        *rules,
        f"    server worker {server.url.removeprefix('http://')}",
    ]
    configuration.write_text("\n".join(lines) + "\n")
    found = shutil.which("haproxy", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    assert found is not None, "haproxy is not installed: apt-get install haproxy"
    with child([found, "-f", str(configuration)], port, folder / "haproxy.log", dict(os.environ)):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with run_server(METAGAME_ROOT_PATH=PREFIX) as one:
        yield one


@pytest.fixture(scope="module", params=["stripped", "kept"])
def outside(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The proxy's URL with the prefix."""
    rules = [STRIPS] if request.param == "stripped" else []
    with proxy(server, tmp_path_factory.mktemp("haproxy"), *rules, ENDS_TLS) as url:
        yield url + PREFIX


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        yield client


@pytest.mark.parametrize("transport", ["websocket", "http"])
@pytest.mark.parametrize("naming", NAMINGS)
async def test_our_client_plays_an_episode(outside: str, transport: str, naming: str) -> None:
    url = outside if naming == "by base_url" else f"{outside}/sessions/{uuid4().hex}"
    async with AsyncMetaGameEnv(url, transport=transport, deadline_s=5) as env:  # type: ignore[arg-type]
        await env.reset(episode_id="one")
        assert [(await env.step(MetaGameAction(message="abc"))).metadata["step"] for _ in range(3)] == [1, 2, 3]
        assert (await env.state()).step_count == 3


@pytest.fixture(scope="module")
def stock() -> Iterator[StockClients]:
    with stock_clients("env_client", interpreter("METAGAME_TEST_OPENENV_PYTHON", ".venvs/openenv-0.10")) as clients:
        yield clients


@pytest.fixture(scope="module")
def stock_http() -> Iterator[StockClients]:
    python = interpreter("METAGAME_TEST_OPENENV_011_PYTHON", ".venvs/openenv-0.1.1")
    with stock_clients("http_client", python) as clients:
        yield clients


@pytest.mark.parametrize("naming", NAMINGS)
async def test_the_env_client_of_openenv_plays_an_episode(outside: str, naming: str, stock: StockClients) -> None:
    name = uuid4().hex
    await stock.call("make", name=name, base_url=outside if naming == "by base_url" else f"{outside}/sessions/{name}")
    await stock.call("reset", name=name, episode_id=name)
    assert await stock.call("step", name=name) == [1, 0.3]
    assert await stock.call("state", name=name) == [name, 1]
    await stock.call("close", name=name)


async def test_the_http_client_of_openenv_0_1_keeps_its_session_by_a_cookie_of_the_whole_host(
    server: Server, tmp_path: Path, stock_http: StockClients
) -> None:
    # Without TLS in front: a client gives a Secure cookie back over TLS only.
    with proxy(server, tmp_path, STRIPS) as url:
        [played] = await stock_http.call("episodes", base_url=url + PREFIX, clients=1, steps=3)
    assert [step for step, *_ in played["transcript"]] == [1, 2, 3]


async def test_everything_that_the_documentation_loads_is_under_the_prefix(
    outside: str, http: httpx.AsyncClient
) -> None:
    page = await http.get(f"{outside}/docs")
    named = set(re.findall(r'(?:src|href)="([^"]+)"', page.text)) | set(re.findall(r"url: '([^']+)'", page.text))
    assert len(named) == 4, "style, script, icon and openapi.json"
    for name in named:
        assert name.startswith(f"{PREFIX}/")
        assert (await http.get(urljoin(outside, name))).status_code == 200
    described = (await http.get(f"{outside}/openapi.json")).json()
    assert described["servers"] == [{"url": PREFIX}]
    assert "/reset" in described["paths"]


def test_the_documentation_tries_out_a_reset_in_a_browser(server: Server, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    refused: list[str] = []
    with proxy(server, tmp_path, STRIPS) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        page = browser.new_page(base_url=url)
        page.set_default_timeout(WAIT_MS)

        def let_through(route: Route) -> None:
            if route.request.url.startswith((f"{url}{PREFIX}/", "data:")):
                route.continue_()
            else:
                refused.append(route.request.url)
                route.abort()

        page.route("**/*", let_through)
        page.goto(f"{PREFIX}/docs")
        assert '"echoed_message": "Meta Game environment ready!"' in try_out(page, "environment", "/reset", "{}")
        browser.close()
    assert refused == []


@pytest.mark.parametrize("rules", [(STRIPS,), ()], ids=["stripped", "kept"])
def test_the_page_plays_in_a_browser(server: Server, tmp_path: Path, rules: tuple[str, ...]) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    asked: list[str] = []
    with proxy(server, tmp_path, *rules) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        page = browser.new_page(base_url=url)
        page.set_default_timeout(WAIT_MS)
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda opened: asked.append(opened.url.replace("ws://", "http://")))
        page.goto(f"{PREFIX}/")
        page.get_by_role("button", name="Start episode").click()
        page.get_by_label("Message").fill("abc")
        page.get_by_role("button", name="Send step").click()
        expect(page.locator("#stat-reward")).to_have_text("0.3", timeout=WAIT_MS)
        assert page.url.startswith(f"{url}{PREFIX}/web/#session=")
        browser.close()
        assert [one for one in asked if not one.startswith(f"{url}{PREFIX}/")] == []


async def test_a_redirect_stays_under_the_prefix_and_on_https(outside: str, http: httpx.AsyncClient) -> None:
    answer = await http.get(f"{outside}/sessions/")
    assert answer.status_code == 307
    assert answer.headers["location"] == outside.replace("http://", "https://") + "/sessions"


async def test_the_page_is_under_the_prefix(outside: str, server: Server, http: httpx.AsyncClient) -> None:
    for path in ("/", "/web"):
        answer = await http.get(outside + path)
        assert (answer.status_code, urljoin(outside + path, answer.headers["location"])) == (307, f"{outside}/web/")
    page = await http.get(f"{outside}/web/")
    named = set(re.findall(r'(?:src|href)="([\w.]+)"', page.text))
    assert len(named) > 5
    for name in named:
        assert (await http.get(urljoin(f"{outside}/web/", name))).status_code == 200
    past_the_proxy = await http.get(server.url + PREFIX, follow_redirects=True)
    assert past_the_proxy.url.path == f"{PREFIX}/web/"


async def test_the_cookie_is_for_the_whole_host_and_secure_behind_tls(outside: str, http: httpx.AsyncClient) -> None:
    cookie = (await http.post(f"{outside}/reset")).headers["set-cookie"]
    assert "; Path=/;" in cookie
    assert cookie.endswith("; Secure")


@pytest.mark.parametrize("name", ["METAGAME_FORWARDED_ALLOW_IPS", "FORWARDED_ALLOW_IPS"])
@pytest.mark.parametrize(
    ("believed", "secure"),
    [("127.0.0.0/8", True), ("10.1.2.3, 127.0.0.1", True), ("*", True), ("10.0.0.0/8", False)],
)
async def test_what_a_proxy_says_of_tls_is_believed_of_those_that_the_setting_names(
    name: str, believed: str, secure: bool, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    with run_server(**{name: believed}) as server:
        answer = await http.post(f"{server.url}/reset", headers={"X-Forwarded-Proto": "https"})
        assert ("; Secure" in answer.headers["set-cookie"]) is secure


async def test_probes_and_sockets_past_the_proxy_need_no_prefix(server: Server, http: httpx.AsyncClient) -> None:
    for path in ("/ready", f"{PREFIX}/ready"):
        assert (await http.get(server.url + path)).json() == {"status": "ready"}
    for path in (f"{PREFIX}ready", f"{PREFIX}x/ready", f"{PREFIX}{PREFIX}/ready"):
        assert (await http.get(server.url + path)).status_code == 404
    async with AsyncMetaGameEnv(server.url) as env:
        await env.reset()


@pytest.mark.parametrize(
    "path", ["metagame", "/metagame/", "/", "//host", "/a//b", "/a/../b", "/.", "/a b", "/a?b", "/é", "https://host/a"]
)
def test_a_root_path_that_is_none_stops_the_start(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAGAME_ROOT_PATH", path)
    with pytest.raises(SettingsError, match=r"METAGAME_ROOT_PATH is .* must be like /metagame"):
        load_settings()


def test_a_root_path_that_begins_like_a_path_of_ours_stops_the_start() -> None:
    with pytest.raises(SettingsError, match=r"--root-path is '/sessions/a', .* begin with /sessions"):
        load_settings(root_path="/sessions/a")


def test_every_path_of_ours_is_known_to_the_setting() -> None:
    app = create_app(Settings())
    served = {*app.openapi()["paths"], *(getattr(route, "path", "/health") for route in app.router.routes)}
    segments = {path.split("/")[1].replace("{env_name}", "meta_game_env") for path in served if path.strip("/")}
    assert (
        {"reset", "sessions", "ws", "docs", "static-offline-docs", "ready", "meta_game_env"} <= segments <= OWN_SEGMENTS
    )


@pytest.mark.parametrize("listed", ["proxy.internal", "10.0.0.1/8", "10.0.0.1,", "*,10.0.0.1"])
def test_a_proxy_that_is_no_address_stops_the_start(listed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", listed)
    with pytest.raises(SettingsError, match=r"FORWARDED_ALLOW_IPS is .* addresses and networks"):
        load_settings()
