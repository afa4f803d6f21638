"""What a request carries when it reaches a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from tests.balancer.haproxy import Balancer, balancer
from tests.balancer.recorder import Recorder, recorder

pytestmark = pytest.mark.anyio
KEY = "idempotency-key"


@pytest.fixture
async def seen() -> AsyncIterator[Recorder]:
    async with recorder() as one:
        yield one


@pytest.fixture
async def through(seen: Recorder, tmp_path: Path) -> AsyncIterator[Balancer]:
    # Started beside the event loop, in which its worker runs.
    context = balancer(tmp_path, [seen.port])
    yield await asyncio.to_thread(context.__enter__)
    context.__exit__(None, None, None)


@pytest.fixture
async def http(through: Balancer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=through.url, trust_env=False) as client:
        yield client


async def test_a_request_without_a_key_gets_a_random_one_and_each_another(
    http: httpx.AsyncClient, seen: Recorder
) -> None:
    for _ in range(3):
        assert (await http.post("/step")).status_code == 200
    keys = [UUID(value) for (value,) in seen.values(KEY)]
    assert {key.version for key in keys} == {4}
    assert len(set(keys)) == 3


@pytest.mark.parametrize("key", ["1", "7b0c9d2e-0000-4000-8000-000000000000", "x" * 256])
async def test_a_clients_own_key_stays_as_it_is(http: httpx.AsyncClient, seen: Recorder, key: str) -> None:
    await http.post("/step", headers={"Idempotency-Key": key})
    assert seen.values(KEY) == [[key]]


async def test_an_empty_key_counts_as_none(http: httpx.AsyncClient, seen: Recorder) -> None:
    await http.post("/step", headers={"Idempotency-Key": ""})
    ((value,),) = seen.values(KEY)
    assert UUID(value).version == 4


async def test_a_request_sent_again_has_the_same_key(http: httpx.AsyncClient, seen: Recorder) -> None:
    seen.hang_ups = 2
    assert (await http.post("/step", content=b"{}")).status_code == 200
    assert len(seen.requests) == 3
    assert len({value for (value,) in seen.values(KEY)}) == 1


async def test_nothing_that_the_client_sent_is_lost(http: httpx.AsyncClient, seen: Recorder) -> None:
    sent = {"X-Session-ID": "mine", "Cookie": "metagame_session=mine", "X-Forwarded-Proto": "https", "X-Other": "a"}
    await http.post("/step?session_id=mine", headers=sent)
    assert seen.requests[0].startswith("POST /step?session_id=mine HTTP/1.1\r\n")
    for name, value in sent.items():
        assert seen.values(name.lower()) == [[value]]
    assert seen.values("x-forwarded-for") == [["127.0.0.1"]]


async def test_the_clients_own_address_stands_behind_what_it_says_of_itself(
    http: httpx.AsyncClient, seen: Recorder
) -> None:
    await http.get("/sessions", headers={"X-Forwarded-For": "203.0.113.7"})
    ((*said, last),) = [
        [one.strip() for value in values for one in value.split(",")] for values in seen.values("x-forwarded-for")
    ]
    assert (said, last) == (["203.0.113.7"], "127.0.0.1")
