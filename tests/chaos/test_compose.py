"""Faults by docker's commands, without docker: a command that does nothing is no hit, whoever was held back by it."""

from __future__ import annotations

import asyncio
import math

import pytest

from chaos.compose import ComposePool, OnContainers
from chaos.faults import Faults
from chaos.hits import Call, impacts, missed_kinds
from chaos.options import IN_COMPOSE
from chaos.schedule import Fault

pytestmark = pytest.mark.anyio
DATED = tuple(kind for kind in IN_COMPOSE if kind != "roll")
STEP_S = 0.004


@pytest.fixture(autouse=True)
def _short_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.compose._CUT_S", 0.0)


class Idle(ComposePool):
    """A pool whose docker does nothing but note when it was asked to."""

    def __init__(self) -> None:
        super().__init__(2)
        self.asked: list[tuple[float, tuple[str, ...]]] = []

    async def docker(self, *arguments: str) -> str:
        self.asked.append((asyncio.get_running_loop().time(), arguments))
        await asyncio.sleep(0.03)
        return ""

    async def containers(self, service: str) -> list[str]:
        return [f"{service}-1"]

    async def ready(self) -> None:
        """At once."""

    def balancer_waits(self) -> list[tuple[float, float]]:
        """From when to when it was paused."""
        began = [at_s for at_s, words in self.asked if words == ("pause", "balancer-1")]
        ended = [at_s for at_s, words in self.asked if words == ("unpause", "balancer-1")]
        return list(zip(began, ended, strict=True))


async def struck(kind: str, pool: Idle, times: int) -> Faults:
    faults = Faults(OnContainers(pool), asyncio.get_running_loop().time, lambda _: None)
    await faults.run([Fault(number, kind, 0.0, ("w1",), 0.0, "SIGTERM", 0.0) for number in range(times)])
    return faults


def calls_meanwhile(faults: Faults, pool: Idle) -> list[Call]:
    """A call every few milliseconds; those that meet a paused balancer end when it goes on."""
    calls: list[Call] = []
    now_s = faults.strikes[0].began_s - 1
    while now_s < faults.strikes[-1].ended_s + 1:
        free_s = max([now_s, *(until_s for from_s, until_s in pool.balancer_waits() if from_s <= now_s <= until_s)])
        calls.append(Call("usual", len(calls), "step", now_s, free_s + STEP_S, answered=True))
        now_s += STEP_S
    return calls


@pytest.mark.parametrize("kind", DATED)
async def test_a_command_that_does_nothing_is_a_miss(kind: str) -> None:
    pool = Idle()
    faults = await struck(kind, pool, times=2)
    found = impacts(calls_meanwhile(faults, pool), faults.strikes)
    assert all(impact.in_flight for impact in found)
    assert missed_kinds([kind], found) == [kind]


@pytest.mark.parametrize("kind", DATED)
@pytest.mark.parametrize("fails", [True, False], ids=["failed", "waited"])
async def test_a_command_that_does_something_is_a_hit(kind: str, *, fails: bool) -> None:
    pool = Idle()
    faults = await struck(kind, pool, times=2)
    for strike in faults.strikes:
        inside_s = (strike.instants_s[0] + strike.by_s) / 2
        ended_s = inside_s + STEP_S if fails else strike.by_s + 0.2
        hit = Call("hit", 1, "step", inside_s, ended_s, answered=not fails, failures_s=[ended_s] * fails)
        assert [len(one.hit) for one in impacts([*calls_meanwhile(faults, pool), hit], [strike])] == [1]


@pytest.mark.parametrize("kind", DATED)
async def test_every_second_strike_of_a_kind_finds_the_balancer_at_work(kind: str) -> None:
    pool = Idle()
    faults = await struck(kind, pool, times=4)
    held = [
        any(strike.instants_s[0] <= from_s < until_s <= strike.by_s for from_s, until_s in pool.balancer_waits())
        for strike in faults.strikes
    ]
    assert held == [False, True, False, True]
    assert all(strike.instants_s[0] < strike.by_s < math.inf for strike in faults.strikes)
