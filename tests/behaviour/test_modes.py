"""`METAGAME_MODE=production`: no HTTP way to control an environment or to see whose sessions there are."""

from collections.abc import Iterator

import httpx
import pytest

from metagame import AsyncMetaGameEnv, MetaGameAction
from metagame.errors import ProtocolError, SessionLost
from tests.servers import Server, run_server

pytestmark = pytest.mark.anyio

CONTROL = [
    *[("POST", f"{parent}/{verb}") for parent in ("", "/sessions/one", "/web") for verb in ("reset", "step")],
    ("GET", "/state"),
    ("GET", "/web/state"),
    ("GET", "/sessions/one/state"),
    ("POST", "/sessions"),
    ("GET", "/sessions"),
    ("GET", "/sessions/one"),
    ("DELETE", "/sessions/one"),
]


@pytest.fixture(scope="module")
def production() -> Iterator[Server]:
    with run_server(OPENENV_MODE="Production") as server:
        yield server


@pytest.mark.parametrize(("method", "path"), CONTROL)
def test_what_controls_environments_or_administers_sessions_is_no_path_in_production(
    production: Server, echo_server: Server, method: str, path: str
) -> None:
    asked = {"json": {"action": {"message": "abc"}}} if method == "POST" else {}
    gone = httpx.request(method, production.url + path, trust_env=False, **asked)  # type: ignore[arg-type]
    assert (gone.status_code, gone.json()) == (404, {"detail": "Not Found", "code": "NOT_FOUND"})
    there = httpx.request(method, echo_server.url + path, trust_env=False, **asked)  # type: ignore[arg-type]
    assert there.status_code == 204 or there.json().get("code") != "NOT_FOUND"


def test_production_documents_only_what_it_has(production: Server, echo_server: Server) -> None:
    def documented(server: Server) -> set[str]:
        return set(httpx.get(f"{server.url}/openapi.json", trust_env=False).json()["paths"])

    assert documented(echo_server) - documented(production) == {
        path.replace("one", "{session_id}") for _, path in CONTROL
    }
    assert documented(production) >= {"/health", "/ready", "/metadata", "/schema", "/list_environments"}


def test_metagames_own_variable_beats_openenvs() -> None:
    with run_server(OPENENV_MODE="production", METAGAME_MODE="simulation") as server:
        assert httpx.post(f"{server.url}/reset", trust_env=False).status_code == 200


async def test_sockets_work_in_production_and_a_session_is_found_again_by_its_name(production: Server) -> None:
    async with AsyncMetaGameEnv(production.url, session_id="kept") as env:
        await env.reset()
        assert (await env.step(MetaGameAction(message="abc"))).reward == 0.3
        async with AsyncMetaGameEnv(production.url, session_id="kept") as again:
            assert (await again.step(MetaGameAction(message="abc"))).metadata["step"] == 2
    ended = AsyncMetaGameEnv(production.url, session_id="kept")
    with pytest.raises(SessionLost):  # by `close`
        await ended.state()
    await ended.close()


async def test_our_http_transport_is_told_that_production_has_none(production: Server) -> None:
    env = AsyncMetaGameEnv(production.url, transport="http")
    with pytest.raises(ProtocolError, match=r'404.*production mode.*transport="websocket"'):
        await env.reset()
    await env.close()
