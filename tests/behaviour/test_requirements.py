"""Every requirement on every surface, with two games, on one worker and alternating between two."""

from contextlib import AsyncExitStack

import pytest

from tests.behaviour.apps import Pool
from tests.behaviour.drivers import SURFACES, Surface
from tests.behaviour.requirements import NEEDS_A_NAME, REQUIREMENTS, World
from tests.games.play import Play

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("surface", "name"),
    [
        pytest.param(surface, name, id=f"{surface}-{name}")
        for surface in SURFACES
        for name in REQUIREMENTS
        if not (surface.anonymous and name in NEEDS_A_NAME)
    ],
)
async def test_every_surface_keeps_to_every_requirement(pool: Pool, play: Play, surface: Surface, name: str) -> None:
    async with AsyncExitStack() as stack:
        await REQUIREMENTS[name](World(pool, play, surface, stack))
