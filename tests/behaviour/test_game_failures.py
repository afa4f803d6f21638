"""A game that fails: every surface says so, tells nothing of it, and goes on."""

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from metagame.errors import GameFailed
from metagame.games import Observation, State
from metagame.games.echo import EchoGame
from metagame.wire.requests import ResetRequest, StepRequest
from tests.behaviour.apps import Pool, running_pool
from tests.behaviour.drivers import SURFACES, Surface

pytestmark = pytest.mark.anyio

SECRET = "a path and a password"


class FragileGame(EchoGame):
    """Echo that breaks on one word."""

    def step(self, state: State, action: BaseModel) -> tuple[State, Observation]:
        """Echo, or break."""
        after, observation = super().step(state, action)
        if observation.fields["echoed_message"] == "break":
            raise RuntimeError(SECRET)
        return after, observation


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with running_pool(1, FragileGame(), redis_url=None) as running:
        yield running


@pytest.mark.parametrize("surface", SURFACES, ids=str)
async def test_a_game_that_fails_costs_an_error_and_nothing_else(pool: Pool, surface: Surface) -> None:
    async with surface.open(pool) as client:
        await client.reset(ResetRequest(episode_id="e"))
        for _ in range(2):
            with pytest.raises(GameFailed) as failed:
                await client.step(StepRequest({"message": "break"}, "r"))
            assert SECRET not in failed.value.message
        assert (await client.state()).step_count == 0
        assert (await client.step(StepRequest({"message": "one"}))).metadata["step"] == 1
