"""What clients see of the balancer: hidden metrics, a limit, TLS; and what operators see."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from metagame import AsyncMetaGameEnv
from tests.balancer.certificates import make_certificate
from tests.balancer.conftest import Balanced
from tests.balancer.haproxy import balancer
from tests.balancer.recorder import recorder
from tests.survival.conftest import Pool
from tests.survival.sockets import Socket
from tests.survival.workers import WAIT_S, until, workers

pytestmark = pytest.mark.anyio
SPELLINGS = [
    "/metrics",
    "//metrics",
    "/%6detrics",
    "/%256detrics",
    "/%2Fmetrics",
    "/x/../metrics",
    "/./metrics",
    "/metrics/",
    "/metrics?a=b",
    "/metrics/.",
    "/metrics%2f",
    "/METRICS",
    "/prefix/metrics",
    "/sessions/metrics/../../metrics",
    "/sessions/metrics/metrics",
    "/sessions//metrics",
    "/metrics?/sessions/metrics",
    "/metrics%3F/sessions/metrics",
    "/metrics%253F/sessions/metrics",
    "/metrics%23/sessions/metrics",
    "/metrics;/sessions/metrics",
    "//metrics//sessions/metrics",
    "/metrics%00/sessions/metrics",
    "/metrics%0a/sessions/metrics",
    "/metrics%0a",
    "/metrics\\/sessions/metrics",
    "http://x/metrics",
]


async def raw(port: int, target: str, method: str = "GET") -> tuple[bytes, bytes]:
    """Head and body of the answer to a target that no client library has put in order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, body


@asynccontextmanager
async def behind(folder: Path, root_path: str) -> AsyncIterator[httpx.AsyncClient]:
    """Requests through a balancer before one worker of this root path."""
    with workers(1, METAGAME_ROOT_PATH=root_path) as (worker,), balancer(folder, [worker.port]) as one:
        await until(one.up, "the worker in rotation")
        async with httpx.AsyncClient(base_url=one.url, trust_env=False) as client:
            yield client


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("target", SPELLINGS)
async def test_the_workers_metrics_are_hidden_by_whatever_spelling(
    balanced: Balanced, target: str, method: str
) -> None:
    before = balanced.count("stot")
    head, body = await raw(balanced.balancer.port, target, method)
    assert head.startswith(b"HTTP/1.1 404 ")
    assert json.loads(body) == {"detail": "Not Found", "code": "NOT_FOUND"}
    assert balanced.count("stot") == before


async def test_a_session_may_be_called_metrics(balanced: Balanced, http: httpx.AsyncClient) -> None:
    assert (await http.post("/sessions/metrics/reset")).status_code == 200
    async with Socket(balanced.balancer, "metrics") as socket:
        assert await socket.step() == 1
    assert (await http.get("/sessions/metrics/state")).json()["step_count"] == 1
    assert (await http.get("/sessions/metrics")).json()["session_id"] == "metrics"
    assert (await http.delete("/sessions/metrics")).status_code == 204


@pytest.mark.parametrize("root", ["/metagame", "/envs/meta-game.v1"])
async def test_a_session_may_be_called_metrics_under_a_root_path(tmp_path: Path, root: str) -> None:
    async with behind(tmp_path, root) as http:
        assert (await http.post(f"{root}/sessions/metrics/reset")).status_code == 200
        step = await http.post(f"{root}/sessions/metrics/step", json={"action": {"message": "abc"}})
        assert step.json()["metadata"]["step"] == 1
        assert (await http.get(f"{root}/sessions/metrics")).json()["session_id"] == "metrics"
        assert (await http.delete(f"{root}/sessions/metrics")).status_code == 204
        assert (await http.get(f"{root}/metrics")).status_code == 404


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("text/plain; version=0.0.4; charset=utf-8", 404),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", 404),
        ("application/json", 200),
    ],
)
async def test_the_metrics_are_hidden_where_a_root_path_makes_them_look_like_a_session(
    tmp_path: Path, content_type: str, status: int
) -> None:
    async with recorder(content_type) as worker:
        context = balancer(tmp_path, [worker.port])  # started beside the event loop, in which its worker runs
        one = await asyncio.to_thread(context.__enter__)
        head, body = await raw(one.port, "/envs/sessions/metrics")
        context.__exit__(None, None, None)
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert json.loads(body) == ({} if status == 200 else {"detail": "Not Found", "code": "NOT_FOUND"})


async def test_an_address_may_have_no_limit(balanced: Balanced) -> None:
    clients = [await asyncio.open_connection("127.0.0.1", balanced.balancer.port) for _ in range(200)]
    assert (await raw(balanced.balancer.port, "/health"))[0].startswith(b"HTTP/1.1 200 ")
    for _, writer in clients:
        writer.close()


async def test_an_address_over_its_limit_is_told_and_goes_on_when_it_has_closed_some(
    pool: Pool, tmp_path: Path, session_id: str
) -> None:
    with balancer(tmp_path, [worker.port for worker in pool.workers], BALANCER_CLIENT_CONNECTIONS="2") as one:
        await until(lambda: len(one.up()) == 2, "both in rotation")
        async with Socket(one, session_id) as kept:
            await kept.reset()
            async with Socket(one) as second:
                await second.reset()
                head, body = await raw(one.port, "/health")
                assert head.startswith(b"HTTP/1.1 429 ")
                assert b"\r\nretry-after: 5" in head.lower()
                refused = json.loads(body)
                assert (refused["code"], refused["reason"]) == ("TOO_MANY_REQUESTS", "unavailable")
                assert refused["retryable"] is True
                before = one.answered("4xx")
                env = AsyncMetaGameEnv(one.url)
                waiting = asyncio.ensure_future(env.reset())
                await until(lambda: one.answered("4xx") > before, "a handshake refused")
            await waiting
            await env.close()
            assert await kept.step() == 1


LIMIT, BEYOND = 5, 64


class Connection:
    """One connection on which a test asks when it wants to; `closed` once the balancer has hung up."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self) -> tuple[bytes, bytes]:
        """Head, in lower case, and body of an answer; the connection stays open as far as it is up to us."""
        self._writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        return head, await self._reader.readexactly(int(length.partition(b":")[2]))

    async def hung_up(self) -> None:
        """Wait until the balancer closes, without another word."""
        assert await asyncio.wait_for(self._reader.read(), WAIT_S) == b""

    @property
    def closed(self) -> bool:
        return self._reader.at_eof() or self._reader.exception() is not None

    def close(self) -> None:
        self._writer.close()


async def test_connections_without_a_request_take_nothing_from_those_within_the_limit(
    pool: Pool, tmp_path: Path
) -> None:
    ports = [worker.port for worker in pool.workers]
    async with AsyncExitStack() as stack:
        one = stack.enter_context(balancer(tmp_path, ports, BALANCER_CLIENT_CONNECTIONS=str(LIMIT)))
        await until(lambda: len(one.up()) == 2, "both in rotation")

        async def opened() -> Connection:
            connection = await Connection.open(one.port)
            stack.callback(connection.close)
            return connection

        within = [await opened() for _ in range(LIMIT)]
        await until(lambda: one.open_connections() == LIMIT, "those within the limit taken")
        beyond = [await opened() for _ in range(BEYOND)]
        await until(lambda: one.open_connections() == LIMIT + BEYOND, "those beyond the limit taken")
        rejected = []
        for _ in range(200):
            with suppress(ConnectionResetError):  # at once, before it was seen open
                rejected.append(await opened())
        await until(lambda: all(each.closed for each in rejected), "those far beyond the limit closed")
        assert one.open_connections() == LIMIT + BEYOND
        for _ in range(2):
            for each in within:
                assert (await each.ask())[0].startswith(b"http/1.1 200 ")
        for each in beyond:
            head, body = await each.ask()
            assert head.startswith(b"http/1.1 429 ")
            assert b"\r\nretry-after: 5\r\n" in head
            assert b"\r\nconnection: close\r\n" in head
            assert json.loads(body)["code"] == "TOO_MANY_REQUESTS"
            await each.hung_up()
        within.pop().close()
        await until(lambda: one.open_connections() == LIMIT - 1, "the closed ones forgotten")
        again = await opened()
        assert (await again.ask())[0].startswith(b"http/1.1 200 ")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, and its key behind it."""
    folder = tmp_path_factory.mktemp("tls")
    both = folder / "both.pem"
    both.write_text(make_certificate(folder))
    return both


async def test_over_tls_the_cookie_is_secure_and_sockets_open(
    pool: Pool, tmp_path: Path, certificate: Path, balanced: Balanced, session_id: str
) -> None:
    (tmp_path / "tls").mkdir()
    trust = ssl.create_default_context(cafile=str(certificate))
    with balancer(tmp_path / "tls", [worker.port for worker in pool.workers], BALANCER_TLS_PEM=str(certificate)) as one:
        await until(lambda: len(one.up()) == 2, "both in rotation")
        assert one.url.startswith("https://")
        async with httpx.AsyncClient(base_url=one.url, verify=trust, trust_env=False) as client:
            cookie = (await client.post("/reset")).headers["set-cookie"]
            assert "; Secure" in cookie
            assert (await client.post("/step", json={"action": {"message": "abc"}})).json()["reward"] == 0.3
        async with connect(f"wss://127.0.0.1:{one.port}/sessions/{session_id}/ws", ssl=trust, proxy=None) as socket:
            await socket.send('{"type":"reset","data":{}}')
            assert json.loads(await socket.recv())["data"]["reward"] == 0.0
    async with httpx.AsyncClient(base_url=balanced.url, trust_env=False) as client:
        assert "Secure" not in (await client.post("/reset")).headers["set-cookie"]


async def test_operators_see_workers_and_counters_and_clients_do_not(
    balanced: Balanced, http: httpx.AsyncClient
) -> None:
    async with httpx.AsyncClient(base_url=balanced.balancer.stats_url, trust_env=False) as stats:
        page = await stats.get("/")
        assert page.status_code == 200
        assert all(f"127.0.0.1:{worker.port}" in page.text for worker in balanced.workers)
        assert "haproxy_server_status" in (await stats.get("/metrics")).text
        assert (await stats.get("/ready")).status_code == 200
        refused = await stats.post("/", data={"s": "w1", "action": "drain", "b": "workers"})
        assert refused.headers["location"].endswith("st=DENY")
    assert balanced.balancer.up() == {"w1", "w2"}
    assert (await http.get("/;csv")).status_code == 404


async def test_no_session_id_is_logged(balanced: Balanced, http: httpx.AsyncClient, session_id: str) -> None:
    await http.post(f"/sessions/{session_id}/reset")
    await asyncio.to_thread(balanced.workers[0].kill)
    while " GET 200 worker=" not in balanced.balancer.log:  # one that had to be sent again
        assert (await http.get(f"/sessions/{session_id}/state")).status_code == 200
        assert balanced.balancer.up() == {"w1", "w2"} or " retries=" in balanced.balancer.log
    assert session_id not in balanced.balancer.log
