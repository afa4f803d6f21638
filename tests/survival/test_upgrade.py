"""Upgrades with live sessions: workers of several releases on one Redis, rolled forward and back."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from services.store import layout
from services.store.keys import record_key
from tests.redis_servers import RedisServer, redis_server
from tests.survival.load import CLIENTS, CountingBalancer, Load
from tests.survival.releases import AHEAD, NEXT, PREVIOUS, THIS, Release, ReleasedWorker, replace
from tests.survival.sockets import Socket
from tests.survival.stock import StockClients
from tests.survival.test_alternating import http_alternates, sockets_alternate
from tests.survival.workers import http, running

pytestmark = pytest.mark.anyio
DRAIN_S = 3.0
NEIGHBOURS = [(THIS, NEXT), (NEXT, THIS), (PREVIOUS, THIS), (THIS, PREVIOUS)]
ANEW = {"Connection": "close"}


def _named(release: Release) -> str:
    return f"writes {release.writes} reads {release.reads}"


@dataclass(frozen=True, slots=True)
class Mixed:
    """Two workers that may be of different releases, and their Redis."""

    redis: RedisServer
    one: ReleasedWorker
    other: ReleasedWorker

    @property
    def workers(self) -> list[ReleasedWorker]:
        return [self.one, self.other]

    async def are(self, one: Release, other: Release) -> None:
        """Have both run, each as its release."""
        for worker, release in ((self.one, one), (self.other, other)):
            if worker.release != release or not worker.alive:
                worker.release = release
                worker.end()
        await running(*self.workers)

    def raw(self, session_id: str) -> bytes:
        """The session's record as it lies in Redis."""
        with self.redis.client() as client:
            raw = client.get(record_key("metagame", session_id))
        assert isinstance(raw, bytes), "no such session"
        return raw

    def formats(self) -> list[str]:
        """The format of every session's record."""
        with self.redis.client() as client:
            raw = [client.get(key) for key in client.scan_iter("metagame:{*}")]
        return [_form(one) for one in raw if isinstance(one, bytes)]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    with redis_server(tmp_path_factory.mktemp("redis")) as redis:
        settings = {"METAGAME_REDIS_URL": redis.url, "METAGAME_DRAIN_TIMEOUT_S": str(DRAIN_S)}
        two = [ReleasedWorker(THIS, **settings) for _ in range(2)]
        yield Mixed(redis, *two)
        for worker in two:
            worker.end()


@pytest.fixture
def mixed(both: Mixed) -> Mixed:
    """The two workers, in whatever state, on an empty Redis."""
    with both.redis.client() as client:
        client.flushall()
    return both


@pytest.mark.parametrize(("older", "newer"), [(PREVIOUS, THIS), (THIS, NEXT)], ids=_named)
async def test_a_roll_forward_and_back_under_load_is_not_seen_by_clients(
    mixed: Mixed, older: Release, newer: Release
) -> None:
    await mixed.are(older, older)
    balancer = CountingBalancer([worker.port for worker in mixed.workers])
    async with balancer.listening() as url, Load(url, http_headers=ANEW) as load:
        for release in (newer, older):
            for worker in mixed.workers:
                worker.send(signal.SIGTERM)
                assert await worker.exit_code() == 0
                await replace(worker, release)
                await load.goes_on()  # one of each release here, then none of the one that is replaced
            assert mixed.formats() == CLIENTS * [release.writes]
        await load.finish()
        assert balancer.connections > 3 * CLIENTS


async def test_a_crash_of_every_worker_in_mid_roll_loses_nothing(mixed: Mixed) -> None:
    await mixed.are(THIS, NEXT)
    balancer = CountingBalancer([worker.port for worker in mixed.workers])
    async with balancer.listening() as url, Load(url, http_headers=ANEW) as load:
        assert set(mixed.formats()) == {"1", "2"}
        for worker in (*mixed.workers, mixed.one):
            worker.kill()
            await load.goes_on()
            await replace(worker, NEXT if worker.release is THIS else THIS)
            await load.goes_on()
        await load.finish()


@pytest.mark.parametrize(("one", "other"), NEIGHBOURS, ids=_named)
async def test_requests_and_sockets_alternate_between_neighbouring_releases(
    mixed: Mixed, session_id: str, one: Release, other: Release
) -> None:
    await mixed.are(one, other)
    await http_alternates([*mixed.workers], f"{session_id}-http")
    await sockets_alternate([*mixed.workers], f"{session_id}-socket")


@pytest.mark.parametrize(("one", "other"), NEIGHBOURS, ids=_named)
async def test_a_socket_at_one_release_and_requests_at_the_other_step_one_session(
    mixed: Mixed, session_id: str, one: Release, other: Release
) -> None:
    await mixed.are(one, other)
    async with Socket(mixed.one, session_id) as socket, http(mixed.other) as client:
        await socket.ask("reset", {"episode_id": "one"})
        for number in (1, 3, 5):
            assert await socket.step() == number  # on its cache the first time, then on what the other wrote
            assert mixed.raw(session_id) == _written_by(mixed.raw(session_id), one)
            answer = await client.post(f"/sessions/{session_id}/step", json={"action": {"message": "abc"}})
            assert answer.json()["metadata"]["step"] == number + 1
            assert mixed.raw(session_id) == _written_by(mixed.raw(session_id), other)
        assert await socket.stands() == ("one", 6)


@pytest.mark.parametrize(("one", "other"), NEIGHBOURS, ids=_named)
async def test_a_request_sent_again_to_the_other_release_happened_once_and_has_the_same_answer(
    mixed: Mixed, session_id: str, one: Release, other: Release
) -> None:
    await mixed.are(one, other)
    async with http(mixed.one) as first, http(mixed.other) as second:
        await first.post(f"/sessions/{session_id}/reset")
        for number, (client, again) in enumerate(((first, second), (second, first)), 1):
            body = {"action": {"message": "abc"}, "request_id": f"step {number}"}
            answer = await client.post(f"/sessions/{session_id}/step", json=body)
            assert answer.json()["metadata"]["step"] == number
            assert (await again.post(f"/sessions/{session_id}/step", json=body)).json() == answer.json()
        assert (await first.get(f"/sessions/{session_id}/state")).json()["step_count"] == 2


async def test_an_unmodified_env_client_goes_on_at_the_next_step_through_a_roll_forward_and_back(
    mixed: Mixed, session_id: str, stock: StockClients
) -> None:
    await mixed.are(THIS, THIS)
    balancer = CountingBalancer([worker.port for worker in mixed.workers])
    async with balancer.listening() as url:
        await stock.call("make", name=session_id, base_url=f"{url}/sessions/{session_id}")
        await stock.call("reset", name=session_id, episode_id=session_id)
        rolls = [(worker, release) for release in (NEXT, THIS) for worker in mixed.workers]
        for number, (worker, release) in enumerate(rolls, 1):
            assert await stock.call("step", name=session_id) == [number, 0.3]
            worker.send(signal.SIGTERM)
            await worker.exit_code()
            await replace(worker, release)
        assert await stock.call("state", name=session_id) == [session_id, len(rolls)]
        await stock.call("close", name=session_id)


async def test_a_release_too_old_for_a_session_answers_retryable_and_touches_nothing(
    mixed: Mixed, session_id: str
) -> None:
    await mixed.are(THIS, AHEAD)
    path = f"/sessions/{session_id}"
    body = {"action": {"message": "abc"}, "request_id": "r"}
    async with Socket(mixed.other, session_id) as owner, http(mixed.one) as client:
        await owner.ask("reset", {"episode_id": "one"})
        assert await owner.step() == 1
        written = mixed.raw(session_id)
        assert _form(written) == AHEAD.writes
        for method, where, sent in (
            ("POST", f"{path}/reset", {}),
            ("POST", f"{path}/step", body),
            ("GET", f"{path}/state", None),
            ("GET", path, None),
        ):
            refused = await client.request(method, where, json=sent)
            assert (refused.status_code, refused.json()["retryable"]) == (503, True), where
            assert "newer release" in refused.json()["detail"]
        async with Socket(mixed.one, session_id) as newcomer:
            refusal = (await newcomer.receive())["data"]
            assert (refusal["code"], refusal["retryable"]) == ("SESSION_ERROR", True)
            assert await newcomer.close_code() == 1000
        listed = (await client.get("/sessions")).json()["sessions"]
        assert [(one["session_id"], one["step_count"]) for one in listed] == [(session_id, None)]
        assert mixed.raw(session_id) == written
        assert await owner.step() == 2
        assert await owner.stands() == ("one", 2)


async def test_a_socket_at_a_release_too_old_for_what_its_session_became_is_sent_elsewhere(
    mixed: Mixed, session_id: str
) -> None:
    await mixed.are(THIS, AHEAD)
    async with Socket(mixed.one, session_id) as socket, http(mixed.other) as client:
        await socket.reset()
        assert await socket.step() == 1
        await client.post(f"/sessions/{session_id}/step", json={"action": {"message": "abc"}})
        written = mixed.raw(session_id)
        refusal = await socket.ask("step", {"message": "abc"}, request_id="r")
        assert (refusal["code"], refusal["retryable"]) == ("SESSION_ERROR", True)
        assert await socket.close_code() == 1012
        assert _form(mixed.raw(session_id)) == AHEAD.writes
        assert layout.read(mixed.raw(session_id)).body == layout.read(written).body
    async with Socket(mixed.other, session_id) as socket:
        assert await socket.step(request_id="r") == 3


async def test_our_client_goes_on_at_the_newer_worker_wherever_it_is_sent_first(mixed: Mixed) -> None:
    await mixed.are(THIS, AHEAD)
    balancer = CountingBalancer([worker.port for worker in mixed.workers])
    async with balancer.listening() as url, Load(url) as load:
        mixed.one.kill()  # every session goes on at the newer worker, and is its own then
        await load.goes_on()
        assert mixed.formats() == CLIENTS * [AHEAD.writes]
        await replace(mixed.one, THIS)
        mixed.other.kill()  # and for a while there is none that could read it
        await replace(mixed.other, AHEAD)
        await load.goes_on()
        await load.finish()
        assert mixed.formats() == CLIENTS * [AHEAD.writes]


def _form(raw: bytes) -> str:
    return layout.read(raw).body[:1].decode()


def _written_by(raw: bytes, release: Release) -> bytes:
    assert _form(raw) == release.writes
    return raw
