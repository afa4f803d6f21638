"""F: copies are sessions, and what is measured is what was asked for."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bench import seeding
from bench.targets import Options
from bench.targets.resident import Pool, Scale, measure, pool
from tests.redis_servers import redis_server

SMALL = Scale(few=50, sizes=(50, 150), weighed=500, sockets=4, steps=5, http_steps=50, samples=20)


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Pool]:
    """A pool with 150 copies, made at two times."""
    with pool(tmp_path / "pool", SMALL) as one:
        one.grow(50)
        one.grow(150)
        yield one


def test_a_copy_is_a_session_that_goes_on_where_the_first_stood(filled: Pool) -> None:
    name = seeding.copied_name(149)
    with httpx.Client(base_url=f"http://127.0.0.1:{filled.port}", trust_env=False) as client:
        stood = client.get(f"/sessions/{name}/state").json()["step_count"]
        stepped = client.post(f"/sessions/{name}/step", json={"action": {"message": "hi"}}).json()
        listed = client.get("/sessions", params={"limit": 1000}).json()["sessions"]
    assert stepped["metadata"]["step"] == stood + 1
    assert {seeding.copied_name(number) for number in range(150)} <= {one["session_id"] for one in listed}


def test_a_copy_has_its_place_and_an_end(filled: Pool) -> None:
    assert filled.redis.zcard(seeding.PLACES) == 151
    assert [key for key in filled.redis.scan_iter() if filled.redis.pttl(key) == -1] == []


def test_a_redis_that_crashes_has_the_copies_still(filled: Pool, tmp_path: Path) -> None:
    _, redis_pid = filled.pids
    os.kill(redis_pid, signal.SIGKILL)
    [data] = (folder for folder in (tmp_path / "pool").glob("redis-*") if folder.is_dir())
    with redis_server(data, durable=True) as again, again.client() as client:
        assert client.exists(*[seeding.KEY % seeding.copied_name(number) for number in (0, 49, 50, 149)]) == 4


def test_copies_that_are_no_sessions_are_found_out(filled: Pool) -> None:
    filled.redis.set(seeding.KEY % filled.sample, "no record", px=60_000)
    with pytest.raises(ExceptionGroup) as refused:
        filled.grow(2000)
    assert refused.value.subgroup(seeding.Refused) is not None


def test_what_a_worker_refuses_is_told(filled: Pool) -> None:
    async def step(session: seeding.Session, _: int) -> None:
        session.name = "nobody"
        await session.step()

    with pytest.raises(ExceptionGroup) as refused:
        asyncio.run(seeding.side_by_side(filled.port, 1, step))
    assert "session_lost" in str(refused.value.exceptions)


def test_every_size_is_measured_both_ways(options: Options) -> None:
    result = measure(options, SMALL)
    by_name = {check.name: check.value for check in result.checks}
    assert all(value > 0 for value in by_name.values())
    made, stepped = (check.value for check in result.checks[-2:])
    assert 200 < made < stepped
    assert [[size for size, _ in series.points] for series in result.series] == [[50, 150], [50, 150]]
