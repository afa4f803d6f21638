"""`METAGAME_STEP_BEFORE_RESET=allow`: the reference's behaviour, for anonymous sockets only."""

import json
from collections.abc import Iterator

import httpx
import pytest

from metagame.errors import SessionError
from metagame.wire.answers import StateAnswer
from metagame.wire.requests import StepRequest
from tests.behaviour.apps import Pool, running_pool
from tests.behaviour.drivers import SURFACES, Surface, open_socket

pytestmark = pytest.mark.anyio

STEP = StepRequest({"message": "one"})


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with running_pool(1, redis_url=None, step_before_reset="allow") as running:
        yield running


@pytest.mark.parametrize("surface", [one for one in SURFACES if not one.anonymous], ids=str)
async def test_a_named_session_still_refuses_a_step_before_its_reset(pool: Pool, surface: Surface) -> None:
    async with surface.open(pool) as client:
        with pytest.raises(SessionError):
            await client.step(STEP)
        if client.session_id is None:
            return
        async with httpx.AsyncClient(base_url=pool.url(0), trust_env=False) as http:
            await http.post("/sessions", json={"session_id": client.session_id})
        with pytest.raises(SessionError, match="STEP_BEFORE_RESET"):
            await client.step(STEP)
        assert await client.state() == StateAnswer(None, 0)


async def test_an_anonymous_sockets_first_step_starts_an_episode_by_itself(pool: Pool) -> None:
    async with await open_socket(pool.url(0), "anonymous", None) as socket:
        episodes = set()
        for number in (1, 1, 2):
            await socket.send(json.dumps({"type": "step", "data": STEP.action, "request_id": f"r{number}"}))
            assert json.loads(await socket.recv())["data"]["metadata"]["step"] == number
            await socket.send('{"type": "state"}')
            state = json.loads(await socket.recv())["data"]
            assert state["step_count"] == number
            episodes.add(state["episode_id"])
        assert len(episodes) == 1
        assert None not in episodes
