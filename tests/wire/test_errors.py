"""Every error that a server sends: in the table, and provoked over the wire where a client can."""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from metagame import errors
from metagame.errors import TABLE, ContainerFailed, MetaGameError, ProtocolError
from metagame.wire.answers import decode_error, error_of_body
from services.app import create_app
from services.settings import Settings
from services.store.memory import MemoryStore
from tests.games.pig import PigGame
from tests.servers import Server, run_server
from tests.wire.sockets import INTERNAL, ask, open_socket

PROVOKED_ELSEWHERE: dict[type[MetaGameError], str] = {
    errors.EpisodeOver: "below, by a game with an end",
    errors.GameFailed: "below, by a game that breaks",
    errors.CapacityReached: "below, by a server with one place",
    errors.SessionTakenOver: "below, by a second socket",
    errors.TooLarge: "test_bad_requests.py",
    errors.SessionError: "never: it is the kind of those beneath it",
    **dict.fromkeys(
        [
            errors.UnknownMethod,
            errors.InvalidParams,
            errors.UnknownTool,
            errors.HeaderMismatch,
            errors.UnsupportedRevision,
            errors.NoTools,
        ],
        "tests/mcp/test_errors.py: they leave as JSON-RPC only",
    ),
    errors.Unauthorized: "tests/auth: it needs a server with API keys",
    errors.Forbidden: "tests/auth: it needs somebody elsewhere",
    errors.Unavailable: "tests/engine and tests/store: it needs a store that is away",
}
STEP = {"action": {"message": "x"}}


def _invalid_request(client: httpx.Client) -> httpx.Response:
    return client.post("/sessions/e/reset", json={"seed": -1})


def _invalid_json(client: httpx.Client) -> httpx.Response:
    return client.post("/sessions/e/reset", content="{", headers={"content-type": "application/json"})


def _invalid_action(client: httpx.Client) -> httpx.Response:
    return client.post("/sessions/e/step", json={"action": {}})


def _invalid_session_id(client: httpx.Client) -> httpx.Response:
    return client.get("/state", headers={"X-Session-ID": "a b"})


def _request_conflict(client: httpx.Client) -> httpx.Response:
    client.post("/sessions/e/reset", json={"request_id": "r"})
    return client.post("/sessions/e/step", json=STEP | {"request_id": "r"})


def _no_episode(client: httpx.Client) -> httpx.Response:
    client.post("/sessions", json={"session_id": "made"})
    return client.post("/sessions/made/step", json=STEP)


def _session_lost(client: httpx.Client) -> httpx.Response:
    return client.post("/sessions/never-made/step", json=STEP)


def _session_moved(client: httpx.Client) -> httpx.Response:
    client.post("/sessions/e/reset", json={"episode_id": "one"})
    return client.post("/sessions/e/step", json=STEP | {"expect": {"episode_id": "two", "step_count": 0}})


def _answer_forgotten(client: httpx.Client) -> httpx.Response:
    client.post("/sessions/e/reset")
    client.post("/sessions/e/step", json=STEP | {"request_id": "first"})
    client.post("/sessions/e/step", json=STEP | {"request_id": "second"})
    return client.post("/sessions/e/step", json=STEP | {"request_id": "first"})


PROVOKED: dict[type[MetaGameError], Callable[[httpx.Client], httpx.Response]] = {
    errors.InvalidRequest: _invalid_request,
    errors.InvalidJson: _invalid_json,
    errors.InvalidAction: _invalid_action,
    errors.InvalidSessionId: _invalid_session_id,
    errors.RequestConflict: _request_conflict,
    errors.NoEpisode: _no_episode,
    errors.SessionLost: _session_lost,
    errors.SessionMoved: _session_moved,
    errors.AnswerForgotten: _answer_forgotten,
}
FRAMES_ONLY = {errors.UnknownFrameType}


def test_the_table_is_total_over_the_tree() -> None:
    assert set(TABLE) == set(_tree(MetaGameError)) - {MetaGameError, ProtocolError, ContainerFailed}
    assert len({row.reason for row in TABLE.values()}) == len(TABLE)
    assert set(PROVOKED) | FRAMES_ONLY | set(PROVOKED_ELSEWHERE) == set(TABLE)


def test_the_docstring_draws_the_whole_tree() -> None:
    drawn = re.findall(r"── (\w+)", errors.__doc__ or "")
    assert sorted(drawn) == sorted(kind.__name__ for kind in _tree(MetaGameError) if kind is not MetaGameError)


@pytest.mark.parametrize("kind", PROVOKED, ids=lambda kind: kind.__name__)
def test_an_error_leaves_by_http_as_the_table_says(echo_server: Server, kind: type[MetaGameError]) -> None:
    with httpx.Client(base_url=echo_server.url, trust_env=False) as client:
        answer = PROVOKED[kind](client)
        client.delete("/sessions/e")
    row, body = TABLE[kind], answer.json()
    assert (answer.status_code, body["code"], body["reason"]) == (row.status, row.code, row.reason)
    assert type(error_of_body(answer.content)) is kind
    assert not INTERNAL.search(answer.text)


def test_a_session_that_is_read_and_not_there_is_not_found(echo_server: Server) -> None:
    with httpx.Client(base_url=echo_server.url, trust_env=False) as client:
        for path in ("/sessions/never-made", "/sessions/never-made/state", "/state?session_id=never-made"):
            assert client.get(path).status_code == TABLE[errors.SessionLost].read_status == 404


def test_an_unknown_frame_leaves_as_the_table_says(echo_server: Server) -> None:
    with open_socket(echo_server.ws_url) as socket:
        data = ask(socket, {"type": "nope"})["data"]
    assert data["code"] == TABLE[errors.UnknownFrameType].code
    assert type(decode_error(data["reason"], "", data)) is errors.UnknownFrameType


def test_a_socket_that_was_taken_over_is_told_and_closed(echo_server: Server) -> None:
    path = "/sessions/taken/ws"
    with open_socket(echo_server.ws_url, path) as older:
        ask(older, {"type": "reset"})
        with open_socket(echo_server.ws_url, path) as newer:
            data = ask(older, {"type": "step", "data": {"message": "x"}})["data"]
            with pytest.raises(ConnectionClosed):
                older.recv(timeout=10)
            assert ask(newer, {"type": "state"})["data"]["step_count"] == 0
    assert (data["code"], data["reason"]) == ("SESSION_ERROR", "session_taken_over")
    assert older.close_code == TABLE[errors.SessionTakenOver].close_code == 4001


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    with run_server(METAGAME_MAX_SESSIONS="1") as server:
        yield server


def test_a_full_pool_says_how_full_on_every_way_in(small: Server) -> None:
    with open_socket(small.ws_url), httpx.Client(base_url=small.url, trust_env=False) as client:
        with open_socket(small.ws_url) as refused:
            data = json.loads(refused.recv(timeout=10))["data"]
            with pytest.raises(ConnectionClosed):
                refused.recv(timeout=10)
        assert refused.close_code == 1000
        answers = [client.post("/reset"), client.post("/sessions"), client.post("/sessions/x/reset")]
    assert (data["code"], data["active_sessions"], data["max_sessions"]) == ("CAPACITY_REACHED", 1, 1)
    for answer in answers:
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        error = error_of_body(answer.content)
        assert type(error) is errors.CapacityReached
        assert error.fields == {"active_sessions": 1, "max_sessions": 1}


class BrokenGame(PigGame):
    """Pig, played on a table that falls over."""

    def step(self, state: object, action: object) -> object:  # type: ignore[override]  # it never answers
        message = f"secret detail of {state!r}"
        raise ZeroDivisionError(message)


@pytest.fixture
async def pig(anyio_backend: str) -> AsyncIterator[httpx.AsyncClient]:
    async with _served(PigGame()) as client:
        yield client


@pytest.fixture
async def broken(anyio_backend: str) -> AsyncIterator[httpx.AsyncClient]:
    async with _served(BrokenGame()) as client:
        yield client


@pytest.mark.anyio
async def test_a_step_after_the_end_is_refused(pig: httpx.AsyncClient) -> None:
    await pig.post("/sessions/p/reset", json={"seed": 1, "target": 1})
    for move in ("roll", "hold") * 20:  # a one loses the turn, so the first roll may bank nothing
        answer = await pig.post("/sessions/p/step", json={"action": {"move": move}})
        if answer.status_code == 409:
            break
    assert answer.status_code == 409
    assert type(error_of_body(answer.content)) is errors.EpisodeOver


@pytest.mark.anyio
async def test_a_game_that_breaks_costs_an_answer_that_tells_nothing_internal(broken: httpx.AsyncClient) -> None:
    await broken.post("/sessions/p/reset", json={"episode_id": "e"})
    answer = await broken.post("/sessions/p/step", json={"action": {"move": "roll"}})
    assert answer.status_code == 500
    assert type(error_of_body(answer.content)) is errors.GameFailed
    assert not INTERNAL.search(answer.text)
    assert "secret" not in answer.text
    assert (await broken.get("/sessions/p/state")).json() == {"episode_id": "e", "step_count": 0}


def _served(game: PigGame) -> httpx.AsyncClient:
    app = create_app(Settings(), game, MemoryStore(max_sessions=10, ttl_ms=60_000))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def _tree(kind: type[MetaGameError]) -> Iterator[type[MetaGameError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child)
