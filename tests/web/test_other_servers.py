"""The page of other games, modes and limits: it shows what there is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

import pytest
from playwright.async_api import expect
from pydantic import BaseModel, ConfigDict, Field

from metagame.games import Observation, State
from tests.behaviour.apps import running_app
from tests.games.pig import PigGame
from tests.servers import run_server
from tests.web.conftest import Visit, Visitor
from tests.web.test_play import start, step

pytestmark = pytest.mark.anyio


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Point(BaseModel):
    """A place on the board."""

    model_config = ConfigDict(extra="forbid")

    x: int = Field(ge=0, le=7, description="Column")
    y: int = Field(ge=0, le=7)


class Everything(BaseModel):
    """One field of each kind."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["place"] = "place"
    where: Point
    colour: Colour
    weight: float = Field(gt=0)
    loud: bool = False
    name: str | None = Field(default=None, max_length=20)
    path: list[Point] = []


class EchoesAll:
    """Shows the action that it was given."""

    name = "every_kind"
    description = "Shows the action that it was given."
    version = "1.0.0"
    action_type: type[BaseModel] = Everything
    observation_type: type[BaseModel] = Everything

    def reset(self, seed: int, options: Mapping[str, Any]) -> tuple[State, Observation]:
        return 0, Observation({"seed": seed, "options": dict(options)})

    def step(self, state: State, action: BaseModel) -> tuple[State, Observation]:
        return state + 1, Observation({"given": action.model_dump(mode="json", exclude_unset=True)}, reward=-1.5)


async def test_a_game_of_many_kinds_of_field_has_its_form(visit: Visit) -> None:
    with running_app(EchoesAll()) as url:
        visitor: Visitor = await visit(url)
        page = visitor.page
        await visitor.goto()
        await expect(page.get_by_role("heading", level=1)).to_have_text("every kind")
        await page.locator("#start .more summary").click()
        await page.get_by_label("The game's options").fill('{"level": 3}')
        await page.get_by_label("Seed").fill("7")
        await page.get_by_role("button", name="Start episode").click()
        await expect(page.locator("#seen")).to_contain_text('{"level":3}')
        await page.get_by_role("button", name="Send step").click()
        await expect(page.locator("#act-where-x-complaint")).to_have_text("This is to be a number.")
        where = page.get_by_role("group", name="Where")
        await where.get_by_label("X").fill("9")
        await where.get_by_label("Y").fill("2")
        await page.get_by_label("Colour").select_option("green")
        await page.get_by_label("Weight").fill("0.5")
        await page.get_by_role("button", name="Send step").click()
        await expect(page.locator("#act-where-x-complaint")).to_contain_text("less than or equal to 7")
        await where.get_by_label("X").fill("3")
        await page.locator("#act-fields details summary").click()
        await page.get_by_label("Loud").check()
        await page.get_by_label("Path").fill('[{"x": 1, "y": 1}]')
        await page.get_by_role("button", name="Send step").click()
        await expect(page.locator("#stat-reward")).to_have_text("-1.5")
        given = (
            '{"kind":"place","where":{"x":3,"y":2},"colour":"green","weight":0.5,"loud":true,"path":[{"x":1,"y":1}]}'
        )
        await expect(page.locator("#seen")).to_contain_text(given)


async def test_a_game_that_ends_says_so_and_starts_again(visit: Visit) -> None:
    with running_app(PigGame()) as url:
        visitor: Visitor = await visit(url)
        page = visitor.page
        await visitor.goto()
        await page.locator("#start .more summary").click()
        await page.get_by_label("The game's options").fill('{"target": 0}')
        await page.get_by_role("button", name="Start episode").click()
        await expect(page.locator("#play-notice")).to_contain_text("The episode did not start")
        await page.get_by_label("The game's options").fill('{"target": 2}')
        await page.get_by_label("Seed").fill("7")
        await page.get_by_role("button", name="Start episode").click()
        await expect(page.locator("#stat-step")).to_have_text("0")
        await page.get_by_label("Move").select_option("hold")
        await page.get_by_role("button", name="Send step").click()
        await expect(page.locator("#act")).to_contain_text("nothing to hold")
        await page.get_by_label("Move").select_option("roll")
        await page.get_by_role("button", name="Send step").click()
        await expect(page.locator("#stat-step")).to_have_text("1")
        await page.get_by_label("Move").select_option("hold")
        await page.get_by_role("button", name="Send step").click()
        await expect(page.locator("#act-title")).to_have_text("The episode is over")
        await expect(page.get_by_role("button", name="Send step")).to_be_disabled()
        await page.get_by_role("button", name="Start episode").click()
        await expect(page.locator("#stat-step")).to_have_text("0")


async def test_in_production_the_page_plays_on_its_socket_and_ends_its_session(visit: Visit) -> None:
    with run_server(METAGAME_MODE="production") as server:
        visitor: Visitor = await visit(server.url)
        visitor.expected.append("404")
        page = visitor.page
        await visitor.goto()
        await start(page)
        await step(page, "abc", 1)
        named = visitor.session_id
        await page.get_by_role("button", name="End session").click()
        await page.get_by_role("dialog").get_by_role("button", name="End session").click()
        await expect(page.locator("#connection")).to_have_text("No session yet")
        await visitor.goto(f"#session={named}")
        await expect(page.locator("#play-notice")).to_contain_text("This session is lost")
        await page.get_by_role("link", name="Pool", exact=True).click()
        await expect(page.locator("#sessions-said")).to_contain_text("production mode")


async def test_a_full_pool_is_said_and_tried_again(visit: Visit) -> None:
    with run_server(METAGAME_MAX_SESSIONS="1") as server:
        visitor: Visitor = await visit(server.url)
        page = visitor.page
        await page.request.post(f"{server.url}/sessions/theirs/reset")
        await visitor.goto()
        await page.get_by_role("button", name="Start episode").click()
        await expect(page.locator("#play-notice")).to_contain_text("The pool is full")
        await page.request.delete(f"{server.url}/sessions/theirs")
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator("#stat-step")).to_have_text("0")


async def test_a_step_that_is_larger_than_the_server_takes_costs_nothing(visit: Visit) -> None:
    with run_server(METAGAME_MAX_FRAME_BYTES="1024") as server:
        visitor: Visitor = await visit(server.url)
        page = visitor.page
        await visitor.goto()
        await start(page)
        await page.get_by_label("Message").fill("x" * 2_000)
        await page.get_by_role("button", name="Send step").click()
        await expect(page.locator("#act-complaint")).to_contain_text("larger than the server takes")
        await expect(page.locator("#connection")).to_contain_text("Reconnected, step 0")
        await step(page, "abc", 1)


async def test_without_scripts_the_page_says_what_it_needs(visit: Visit) -> None:
    with run_server() as server:
        visitor: Visitor = await visit(server.url, java_script_enabled=False)
        await visitor.goto()
        await expect(visitor.page.locator("noscript .notice")).to_be_visible()
