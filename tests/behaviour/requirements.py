"""What a session does, said once; test_requirements.py holds every surface to each.

A requirement is a function of the World; its name is the sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import httpx
import pytest

from metagame.core.session import Expect
from metagame.errors import (
    AnswerForgotten,
    EpisodeOver,
    InvalidAction,
    NoEpisode,
    RequestConflict,
    SessionError,
    SessionLost,
    SessionMoved,
)
from metagame.games import Observation
from metagame.wire.answers import StateAnswer
from metagame.wire.requests import ResetRequest, StepRequest
from tests.behaviour.apps import Pool
from tests.behaviour.drivers import HttpDriver, Surface, WsDriver, expect
from tests.games.pig import PigGame
from tests.games.play import Play


@dataclass(frozen=True)
class World:
    """A pool, a game and a surface; clients opened here are gone with the test."""

    pool: Pool
    play: Play
    surface: Surface
    stack: AsyncExitStack

    async def open(self, session_id: str | None = None) -> HttpDriver | WsDriver:
        """A client of this surface."""
        return await self.stack.enter_async_context(self.surface.open(self.pool, session_id))

    async def by_path(self, session_id: str | None) -> HttpDriver:
        """A client of the same session over plain HTTP."""
        return await self.stack.enter_async_context(HttpDriver(self.pool, "path", session_id))

    def reset(self, episode_id: str | None = "e", request_id: str | None = None) -> ResetRequest:
        """A reset with the play's seed and options."""
        return ResetRequest(self.play.seed, episode_id, dict(self.play.options), request_id)

    def step(self, number: int = 0, request_id: str | None = None, place: Expect | None = None) -> StepRequest:
        """The play's step of this number, counted from 0."""
        return StepRequest(dict(self.play.actions[number]), request_id, place)


Requirement = Callable[[World], Awaitable[None]]
REQUIREMENTS: dict[str, Requirement] = {}
NEEDS_A_NAME: set[str] = set()


def requirement(proof: Requirement) -> Requirement:
    """Every surface keeps to it."""
    REQUIREMENTS[proof.__name__] = proof
    return proof


def of_named_sessions(proof: Requirement) -> Requirement:
    """It needs a second client on the session, so no anonymous socket is asked."""
    NEEDS_A_NAME.add(proof.__name__)
    return requirement(proof)


@requirement
async def an_episode_is_what_the_rules_say(world: World) -> None:
    client = await world.open()
    expected = world.play.model().episode()
    seen = [await client.reset(world.reset())]
    assert await client.state() == StateAnswer("e", 0)
    for number in range(len(world.play.actions)):
        seen.append(await client.step(world.step(number)))
        assert await client.state() == StateAnswer("e", number + 1)
    assert seen == expected


@requirement
async def a_reset_starts_from_the_beginning_under_a_new_name(world: World) -> None:
    client = await world.open()
    first = await client.reset(world.reset(None))
    names = {(await client.state()).episode_id}
    await client.step(world.step())
    assert await client.reset(world.reset(None)) == first
    after = await client.state()
    assert (after.step_count, after.episode_id in names | {None}) == (0, False)
    assert await client.step(world.step()) == world.play.model().episode()[1]


@requirement
async def a_step_before_a_reset_is_refused_and_says_what_to_do(world: World) -> None:
    client = await world.open()
    with pytest.raises(SessionError, match=r"[Rr]eset") as refused:
        await client.step(world.step())
    assert type(refused.value) is (NoEpisode if world.surface.anonymous else SessionLost)
    await client.reset(world.reset())
    assert (await client.state()).step_count == 0


@requirement
async def a_request_id_happens_once_and_is_answered_the_same(world: World) -> None:
    client = await world.open()
    named = isinstance(client, WsDriver) or client.session_id is not None
    if not named:
        await client.reset(world.reset())
    first = await client.reset(world.reset(None, "r0"))
    began = await client.state()
    assert await client.reset(world.reset(None, "r0")) == first
    assert await client.state() == began
    stepped = await client.step(world.step(0, "r1"))
    assert await client.step(world.step(0, "r1")) == stepped
    assert (await client.state()).step_count == 1
    await client.step(world.step(1, "r2"))
    with pytest.raises(AnswerForgotten, match="step 1") as forgotten:
        await client.step(world.step(0, "r1"))
    assert forgotten.value.fields["step"] == 1
    assert (await client.state()).step_count == 2


@requirement
async def a_request_id_of_another_command_is_a_conflict(world: World) -> None:
    client = await world.open()
    await client.reset(world.reset())
    await client.step(world.step(0, "r"))
    with pytest.raises(RequestConflict):
        await client.step(world.step(1, "r"))
    with pytest.raises(RequestConflict):
        await client.reset(world.reset("f", "r"))
    assert await client.state() == StateAnswer("e", 1)


@requirement
async def a_request_that_expects_another_place_is_refused_with_the_place(world: World) -> None:
    client = await world.open()
    await client.reset(replace(world.reset(), expect=Expect(None, 0)))
    for wrong in (Expect("e", 1), Expect("f", 0), Expect(None, 0)):
        with pytest.raises(SessionMoved) as moved:
            await client.step(world.step(0, place=wrong))
        assert (moved.value.fields["episode_id"], moved.value.fields["step_count"]) == ("e", 0)
        with pytest.raises(SessionMoved):
            await client.reset(replace(world.reset("g"), expect=wrong))
    first = await client.step(world.step(0, "r", Expect("e", 0)))
    assert await client.step(world.step(0, "r", Expect("e", 0))) == first
    await client.reset(replace(world.reset("f"), expect=expect(await client.state())))
    assert await client.state() == StateAnswer("f", 0)


@requirement
async def an_action_that_the_game_does_not_take_costs_an_error_and_nothing_else(world: World) -> None:
    client = await world.open()
    await client.reset(world.reset())
    for bad in (world.play.bad_action, {}, {**world.play.actions[0], "extra": 1}):
        with pytest.raises(InvalidAction) as refused:
            await client.step(StepRequest(bad, "r"))
        assert refused.value.fields["errors"]
        assert not any("url" in error for error in refused.value.fields["errors"])
    assert await client.step(world.step(0, "r")) == world.play.model().episode()[1]


@requirement
async def an_episode_that_is_over_takes_no_step_until_a_reset(world: World) -> None:
    client = await world.open()
    seen = await client.reset(world.reset())
    if not isinstance(world.play.make(), PigGame):
        assert not seen.done
        return
    steps = 0
    while not seen.done:
        seen = await client.step(StepRequest({"move": "hold" if seen.fields["turn"] else "roll"}))
        steps += 1
    with pytest.raises(EpisodeOver):
        await client.step(world.step())
    assert await client.state() == StateAnswer("e", steps)
    await client.reset(world.reset("f"))
    assert await client.step(world.step()) == world.play.model().episode()[1]


@of_named_sessions
async def an_answer_is_the_same_on_whatever_surface_it_is_asked_for_again(world: World) -> None:
    client = await world.open()
    await client.reset(world.reset())
    other = await world.by_path(client.session_id)
    stepped = await client.step(world.step(0, "r1"))
    assert await other.step(world.step(0, "r1")) == stepped
    stepped = await other.step(world.step(1, "r2"))
    assert await client.step(world.step(1, "r2")) == stepped
    assert await client.state() == await other.state() == StateAnswer("e", 2)


@of_named_sessions
async def two_clients_step_one_session_and_no_step_is_lost(world: World) -> None:
    client = await world.open()
    await client.reset(world.reset())
    other = await world.by_path(client.session_id)
    roll_or_say = dict(world.play.actions[0])

    async def play(one: HttpDriver | WsDriver) -> list[Observation]:
        return [await one.step(StepRequest(roll_or_say)) for _ in range(6)]

    seen = [one for played in await asyncio.gather(play(client), play(other)) for one in played]
    assert await client.state() == await other.state() == StateAnswer("e", 12)
    if "message" in roll_or_say:
        assert sorted(one.metadata["step"] for one in seen) == list(range(1, 13))
    else:
        await _rolled_as_one_client_would(world, seen)


async def _rolled_as_one_client_would(world: World, seen: list[Observation]) -> None:
    model = world.play.model()
    model.reset()
    alone = [model.step(dict(world.play.actions[0])) for _ in seen]

    def shown(one: Observation) -> str:
        return repr((one.fields, one.reward, sorted(one.metadata.items())))

    assert sorted(map(shown, seen)) == sorted(map(shown, alone))


@of_named_sessions
async def a_session_that_was_ended_is_lost_until_it_is_reset(world: World) -> None:
    client = await world.open()
    await client.reset(world.reset())
    await client.step(world.step())
    async with httpx.AsyncClient(base_url=world.pool.url(0), trust_env=False) as http:
        for _ in range(2):
            assert (await http.delete(f"/sessions/{client.session_id}")).status_code == 204
        assert (await http.get(f"/sessions/{client.session_id}")).status_code == 404
    with pytest.raises(SessionLost):
        await client.step(world.step(1))
    with pytest.raises(SessionLost):
        await client.state()
    await client.reset(world.reset("again"))
    assert await client.step(world.step()) == world.play.model().episode()[1]


@of_named_sessions
async def a_second_client_goes_on_where_the_first_one_stopped(world: World) -> None:
    client = await world.open()
    expected = world.play.model().episode()
    await client.reset(world.reset())
    await client.step(world.step(0))
    await client.leave()
    heir = await world.open(client.session_id)
    assert await heir.state() == StateAnswer("e", 1)
    assert await heir.step(world.step(1)) == expected[2]
