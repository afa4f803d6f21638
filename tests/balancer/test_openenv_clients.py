"""OpenEnv's unmodified clients, release by release, behind the balancer: what the README says that each can do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Literal
from uuid import uuid4

import pytest

from tests.balancer.conftest import Balanced
from tests.servers import ROOT
from tests.survival.conftest import Pool
from tests.survival.stock import StockClients, interpreter, stock_clients
from tests.survival.workers import running, until

pytestmark = pytest.mark.anyio

Style = Literal["straight", "sync", "async"]
STYLES: tuple[Style, ...] = ("straight", "sync", "async")
HEADER = (
    "| client from PyPI | `env.reset()` | `env.sync()` | `async with env` |"
    " worker killed between two steps | worker killed in a step | each step counts once |"
)


@dataclass(frozen=True)
class Release:
    """A release of OpenEnv's clients, and what its clients can do."""

    name: str
    folder: str
    styles: tuple[Style, ...]
    sockets: bool = True
    reconnects: bool = False
    """Whether a client opens another socket by itself, or with every request another connection."""
    cookie: bool = False
    """Whether it keeps a session that it has not named."""

    @property
    def row(self) -> str:
        """Its row in the README."""
        between = "goes on" if self.reconnects else "raises; goes on after `disconnect()` and `connect()`"
        within = "raises; the step counted once or not at all" if self.sockets else "is answered by the other worker"
        once = "ask `state()` after an error" if self.sockets else "yes"
        styles = " | ".join("yes" if style in self.styles else "no" for style in STYLES)
        return f"| `{self.name}` | {styles} | {between} | {within} | {once} |"


RELEASES = [
    Release("openenv-core 0.1.1", ".venvs/openenv-0.1.1", ("straight",), sockets=False, reconnects=True, cookie=True),
    Release("openenv-core 0.2.1", ".venvs/openenv-0.2.1", ("straight",)),
    Release("openenv-core 0.2.3", ".venvs/openenv-0.2.3", ("sync", "async")),
    Release("openenv-core 0.3.0", ".venvs/openenv-0.3.0", ("sync", "async")),
    Release("openenv 0.10.0", ".venvs/openenv-0.10", ("straight", "sync", "async"), reconnects=True),
]
each_release = pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
VARIABLES = {"0.10": "METAGAME_TEST_OPENENV_PYTHON", "0.1.1": "METAGAME_TEST_OPENENV_011_PYTHON"}


@pytest.fixture(scope="module")
def stocks() -> Iterator[dict[str, StockClients]]:
    """A process of each release, that takes long to import it: all at once."""
    with ExitStack() as stack:
        yield {
            release.name: stack.enter_context(
                stock_clients("env_client" if release.sockets else "http_client", _python(release.folder))
            )
            for release in RELEASES
        }


def _python(folder: str) -> str:
    return interpreter(VARIABLES.get(folder.rpartition("-")[2], ""), folder)


def test_the_readme_has_what_is_shown_here() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    rows = lines[lines.index(HEADER) + 2 :]
    assert rows[: rows.index("")] == [release.row for release in RELEASES]


@each_release
async def test_an_episode_in_each_style_that_the_release_has(
    balanced: Balanced, stocks: dict[str, StockClients], release: Release
) -> None:
    stock = stocks[release.name]
    for style in STYLES:
        if style in release.styles:
            assert await stock.call(style, base_url=balanced.url) == [1, 0.3]
        else:
            assert (await stock.raises(style, base_url=balanced.url)).startswith(("AttributeError", "TypeError"))


@dataclass
class Player:
    """A client that has a session, by its path or by a cookie, and what it knows of it."""

    release: Release
    stock: StockClients
    name: str
    episode: str = ""
    taken: int = 0
    raised: int = 0

    async def begin(self, base_url: str) -> None:
        await self.stock.call("make", name=self.name, base_url=base_url)
        assert await self.stock.call("reset", name=self.name) == "Meta Game environment ready!"
        self.episode, self.taken = await self.stock.call("state", name=self.name)
        assert (self.episode is not None, self.taken) == (True, 0)

    async def step(self) -> bool:
        """A step that is answered or raises; then where the session is found, by whichever way the release has."""
        answered = await self.stock.unless_closed("step", name=self.name)
        if answered is not None:
            assert answered == [self.taken + 1, 0.3], self.release.name
            self.taken += 1
            return True
        self.raised += 1
        if not self.release.reconnects:
            assert await self.stock.unless_closed("state", name=self.name) is None, self.release.name
            await self.stock.call("reconnect", name=self.name)
        return False

    async def stands(self) -> Any:
        return await self.stock.call("state", name=self.name)


async def test_clients_whose_worker_is_killed_between_two_steps_go_on_in_their_episode(
    balanced: Balanced, stocks: dict[str, StockClients]
) -> None:
    players = [Player(release, stocks[release.name], uuid4().hex) for release in RELEASES]
    await asyncio.gather(*(one.begin(f"{balanced.url}/sessions/{one.name}") for one in players))
    by_cookie = [Player(one, stocks[one.name], uuid4().hex) for one in RELEASES if one.cookie]
    for one in by_cookie:
        await one.begin(balanced.url)
        players.append(one)
    for worker, other in zip(balanced.workers, ("w2", "w1"), strict=True):
        await _all_step(players)
        await asyncio.to_thread(worker.kill)
        await until(lambda: balanced.balancer.up() == {other}, "the other worker alone")  # noqa: B023 - awaited in this turn
        await _all_step(players)
        await running(worker)
        await balanced.all_up()
    for one in players:
        assert (one.taken >= 4, one.raised > 0) == (True, not one.release.reconnects), one.release.name
        await one.stock.call("close", name=one.name)


async def _all_step(players: list[Player]) -> None:
    """Every client takes a step that is answered, at the second try where it has to reconnect; none is lost."""
    for one in players:
        if not await one.step():
            assert not one.release.reconnects, one.release.name
            assert await one.stands() == [one.episode, one.taken], one.release.name
            assert await one.step()
        assert await one.stands() == [one.episode, one.taken], one.release.name


@each_release
@pytest.mark.parametrize("committed", [False, True], ids=["before the commit", "after the commit"])
async def test_a_client_whose_worker_is_killed_in_a_step(
    faulty_first: Balanced, stocks: dict[str, StockClients], release: Release, committed: bool
) -> None:
    redis, stock = faulty_first.redis, stocks[release.name]
    assert redis is not None
    # Sockets are spread over the workers: one of two clients is at w1.
    players = [Player(release, stock, uuid4().hex) for _ in range(2)]
    for one in players:
        await one.begin(f"{faulty_first.url}/sessions/{one.name}")
    if committed:
        redis.hold_answer("commit")
    else:
        redis.hold_calls("commit")
    for unlucky in cycle(players):
        stepping = asyncio.create_task(unlucky.step())
        await until(lambda: redis.held or stepping.done(), "a commit held, or an answer")  # noqa: B023 - awaited in this turn
        if redis.held:
            break
        assert await stepping
    await asyncio.to_thread(faulty_first.workers[0].kill)
    answered = await stepping
    assert answered is not release.sockets
    counted = unlucky.taken if answered else unlucky.taken + committed
    assert await unlucky.stands() == [unlucky.episode, counted]
    unlucky.taken = counted
    assert await unlucky.step()
    for one in players:
        assert await one.stands() == [one.episode, one.taken]
        await stock.call("close", name=one.name)


@pytest.mark.parametrize("release", [one for one in RELEASES if one.sockets], ids=lambda release: release.name)
async def test_a_client_that_names_no_session_is_told_to_reset_and_given_no_other_episode(
    pool: Pool, stocks: dict[str, StockClients], release: Release
) -> None:
    worker = pool.workers[0]
    player = Player(release, stocks[release.name], uuid4().hex)
    await player.begin(worker.url)
    assert await player.step()
    await asyncio.to_thread(worker.kill)
    await running(worker)
    if not release.reconnects:
        assert not await player.step()
    refused = await player.stock.raises("step", name=player.name)
    assert "(code: SESSION_ERROR)" in refused
    assert "reset" in refused.lower()
    assert await player.stands() == [None, 0]
    await player.stock.call("close", name=player.name)
