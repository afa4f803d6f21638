"""What is answered past FastAPI is answered as by FastAPI, to the byte."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.app import create_app
from services.settings import Settings
from services.surfaces.shortcut import Shortcut, path_params

pytestmark = pytest.mark.anyio
STEP = {"action": {"message": "Hello, World!"}, "request_id": "r"}
EPISODE = {"episode_id": "e"}
JSON = {"content-type": "application/json"}

REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/state", {}),
    ("POST", "/step", {"json": STEP}),
    ("POST", "/reset", {"json": EPISODE, "headers": {"Idempotency-Key": "0b1b4e0c-5a3e-4c58-9a3f-0d0f6a3f7a11"}}),
    ("POST", "/sessions/s/step", {"json": STEP}),
    ("GET", "/sessions/s/state", {}),
    ("POST", "/sessions/s/reset", {"json": EPISODE}),
    ("POST", "/sessions/s/step", {"json": STEP}),
    ("POST", "/sessions/s/step", {"json": STEP}),
    ("POST", "/sessions/s/step", {"json": STEP | {"action": {"message": "another"}}}),
    ("POST", "/sessions/s/step", {"json": STEP["action"]}),
    ("POST", "/sessions/s/step", {"content": b"{", "headers": JSON}),
    ("POST", "/sessions/s/step", {"content": b"{}", "headers": {"content-type": "text/plain"}}),
    ("POST", "/sessions/s/step", {"content": b" " * 2_000_000, "headers": JSON}),
    ("POST", "/sessions/s/step", {}),
    ("GET", "/sessions/s/state", {"headers": {"cookie": "metagame_session=other"}}),
    ("GET", "/state", {"headers": {"X-Session-ID": "s"}}),
    ("GET", "/state?session_id=s", {}),
    ("GET", "/state", {"headers": {"cookie": "metagame_session=s"}}),
    ("POST", "/step", {"json": STEP | {"request_id": "c"}, "headers": {"cookie": "metagame_session=s"}}),
    ("GET", "/state", {"headers": {"X-Session-ID": "a b"}}),
    ("GET", "/sessions/a%20b/state", {}),
    ("GET", "/sessions/a%2Fb/state", {}),
    ("GET", f"/sessions/{'x' * 129}/state", {}),
    ("GET", "/sessions//state", {}),
    ("GET", "/sessions/s/t/state", {}),
    ("GET", "/other/s/state", {}),
    ("GET", "/sessions/state", {}),
    ("GET", "/state/", {}),
    ("GET", "/sessions/s/state/", {}),
    ("HEAD", "/state", {}),
    ("GET", "/step", {}),
    ("POST", "/sessions/s/state", {}),
    ("PUT", "/sessions/s/step", {"json": STEP}),
    ("OPTIONS", "/sessions/s/step", {}),
    ("POST", "/ws", {}),
    ("GET", "/sessions/s/ws", {}),
]


def is_shortcut(middleware: Any) -> bool:
    return middleware.cls is Shortcut


def server(*, shortcut: bool, root_path: str | None) -> httpx.AsyncClient:
    app = create_app(Settings(root_path=root_path))
    if not shortcut:
        app.user_middleware = [one for one in app.user_middleware if not is_shortcut(one)]
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker")


@pytest.fixture(params=[None, "/envs/metagame"], ids=["at the root", "under a path"])
async def both(request: pytest.FixtureRequest) -> AsyncIterator[list[httpx.AsyncClient]]:
    """A server as it is, and one without the shortcut."""
    root_path = request.param
    async with server(shortcut=True, root_path=root_path) as one, server(shortcut=False, root_path=root_path) as other:
        yield [one, other]


async def test_every_answer_is_the_same_without_the_shortcut(both: list[httpx.AsyncClient]) -> None:
    for method, path, options in REQUESTS:
        answers = []
        for client in both:
            client.cookies.clear()
            answers.append(await client.request(method, path, **options))
        taken, usual = answers
        asked = f"{method} {path}"
        assert (asked, taken.status_code, taken.content) == (asked, usual.status_code, usual.content)
        assert (asked, taken.headers.multi_items()) == (asked, usual.headers.multi_items())


async def test_the_paths_of_trainers_do_not_reach_fastapi() -> None:
    async def nothing(*_: Any) -> None:
        raise AssertionError

    app = create_app(Settings())
    kept: Any = next(one for one in app.user_middleware if is_shortcut(one))
    transport = httpx.ASGITransport(Shortcut(nothing, **kept.kwargs))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        assert (await client.post("/sessions/s/reset", json=EPISODE)).status_code == 200
        assert (await client.post("/sessions/s/step", json=STEP)).status_code == 200
        assert (await client.get("/sessions/s/state")).json() == {"episode_id": "e", "step_count": 1}
        assert (await client.post("/reset", json=EPISODE)).headers["x-session-id"]
        with pytest.raises(AssertionError):
            await client.get("/health")


@pytest.mark.parametrize(
    ("parent", "root_path", "named"),
    [
        ("", "", {}),
        ("/sessions/s", "", {"session_id": "s"}),
        ("/sessions/", "", None),
        ("/sessions", "", None),
        ("/sessions/s/t", "", None),
        ("/other", "", None),
        ("/p", "/p", {}),
        ("/p/sessions/s", "/p", {"session_id": "s"}),
        ("/sessions/s", "/p", None),
        ("", "/p", None),
    ],
)
def test_a_path_names_a_session_or_none(parent: str, root_path: str, named: dict[str, str] | None) -> None:
    assert path_params(parent, root_path) == named
