"""Pages of other websites: where METAGAME_ALLOWED_ORIGINS is set, only those that it lists, on every way in."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from services.settings import SettingsError, load_settings
from tests.servers import Server, run_server

pytestmark = pytest.mark.anyio
LISTED = "https://lab.example"
OTHERS = ["https://evil.example", "http://lab.example", "https://lab.example:444", "null", "https://lab.example.evil"]
STRICT, OPEN, ANY = "listed", "unset", "any"
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
ASKED = {
    "HTTP": ("POST", "/reset", {}),
    "HTTP by path": ("POST", "/sessions/mine/reset", {}),
    "health": ("GET", "/health", None),
    "MCP": ("POST", "/mcp", CALL),
    "MCP by path": ("POST", "/sessions/mine/mcp", CALL),
}
SOCKETS = ("/ws", "/sessions/mine/ws", "/mcp", "/sessions/mine/mcp")
ways = pytest.mark.parametrize("way", ASKED)
sockets = pytest.mark.parametrize("path", SOCKETS)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    with (
        run_server(METAGAME_ALLOWED_ORIGINS=f"{LISTED}, http://localhost:5173") as listed,
        run_server() as unset,
        run_server(METAGAME_ALLOWED_ORIGINS="*") as any_of_all,
    ):
        yield {STRICT: listed, OPEN: unset, ANY: any_of_all}


def ask(server: Server, way: str, origin: str | None) -> httpx.Response:
    method, path, body = ASKED[way]
    headers = {} if origin is None else {"Origin": origin}
    return httpx.request(method, server.url + path, json=body, headers=headers, trust_env=False)


async def opens(server: Server, path: str, origin: str | None) -> bool:
    """Whether a handshake from there is taken; a refusal is a 403."""
    named = None if origin is None else Origin(origin)
    try:
        async with connect(server.ws_url + path, origin=named, proxy=None) as socket:
            if path.endswith("/mcp"):
                await socket.send(json.dumps(CALL))
                assert "result" in json.loads(await socket.recv())
            else:
                await socket.send('{"type": "reset", "data": {}}')
                assert json.loads(await socket.recv())["type"] == "observation"
    except InvalidStatus as refused:
        if refused.response.status_code == 403:
            return False
        raise
    return True


@ways
@pytest.mark.parametrize("origin", OTHERS)
def test_a_page_that_is_not_listed_is_refused_and_told_where_the_list_stands(
    servers: dict[str, Server], way: str, origin: str
) -> None:
    answer = ask(servers[STRICT], way, origin)
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
    assert "METAGAME_ALLOWED_ORIGINS" in answer.json()["detail"]
    assert "access-control-allow-origin" not in answer.headers


@sockets
@pytest.mark.parametrize("origin", OTHERS)
async def test_a_socket_of_a_page_that_is_not_listed_is_refused(
    servers: dict[str, Server], path: str, origin: str
) -> None:
    assert not await opens(servers[STRICT], path, origin)


@ways
@pytest.mark.parametrize("origin", [LISTED, "HTTPS://LAB.example", "http://localhost:5173"])
def test_a_listed_page_is_answered_and_may_read_the_answer(servers: dict[str, Server], way: str, origin: str) -> None:
    answer = ask(servers[STRICT], way, origin)
    assert answer.status_code == 200
    if origin.islower():  # browsers write it so
        assert answer.headers["access-control-allow-origin"] == origin
        assert "x-session-id" in answer.headers["access-control-expose-headers"].lower()


@sockets
async def test_a_listed_pages_sockets_open(servers: dict[str, Server], path: str) -> None:
    assert await opens(servers[STRICT], path, LISTED)


@ways
@pytest.mark.parametrize("kind", [STRICT, OPEN, ANY])
def test_the_servers_own_pages_and_clients_that_are_no_browsers_are_always_answered(
    servers: dict[str, Server], kind: str, way: str
) -> None:
    for origin in (servers[kind].url, None):
        assert ask(servers[kind], way, origin).status_code == 200


@sockets
@pytest.mark.parametrize("kind", [STRICT, OPEN, ANY])
async def test_so_are_their_sockets(servers: dict[str, Server], kind: str, path: str) -> None:
    for origin in (servers[kind].url, None):
        assert await opens(servers[kind], path, origin)


@ways
def test_without_a_list_only_the_agents_door_is_closed_to_other_pages(servers: dict[str, Server], way: str) -> None:
    answer = ask(servers[OPEN], way, OTHERS[0])
    assert answer.status_code == (403 if way.startswith("MCP") else 200)
    assert "access-control-allow-origin" not in answer.headers


@sockets
async def test_so_it_is_with_sockets(servers: dict[str, Server], path: str) -> None:
    assert await opens(servers[OPEN], path, OTHERS[0]) is not path.endswith("/mcp")


@ways
@pytest.mark.parametrize("origin", OTHERS)
def test_a_star_lists_all(servers: dict[str, Server], way: str, origin: str) -> None:
    answer = ask(servers[ANY], way, origin)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")


def test_a_browsers_question_beforehand_is_answered_for_listed_pages_only(servers: dict[str, Server]) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-session-id"}
    answers = [
        httpx.options(f"{servers[STRICT].url}/reset", headers=asks | {"Origin": origin}, trust_env=False)
        for origin in (LISTED, OTHERS[0])
    ]
    assert [answer.status_code for answer in answers] == [200, 403]
    assert answers[0].headers["access-control-allow-origin"] == LISTED
    assert "x-session-id" in answers[0].headers["access-control-allow-headers"]


@pytest.mark.parametrize("listed", ["lab.example", "https://lab.example/", "https://lab.example/page", "null", "a b"])
def test_what_no_browser_ever_sends_as_an_origin_stops_the_start(monkeypatch: pytest.MonkeyPatch, listed: str) -> None:
    monkeypatch.setenv("METAGAME_ALLOWED_ORIGINS", listed)
    with pytest.raises(SettingsError, match=r"ALLOWED_ORIGINS is .* no path, no slash"):
        load_settings()
