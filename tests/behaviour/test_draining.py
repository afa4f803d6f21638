"""A worker that was asked to leave, and a worker that was killed, with another one beside it."""

import json
import signal
from collections.abc import Iterator

import httpx
import pytest

from tests.behaviour.drivers import open_socket
from tests.redis_servers import RedisServer
from tests.servers import Server, run_server

pytestmark = pytest.mark.anyio

RESET = json.dumps({"type": "reset", "data": {"episode_id": "e"}})
STEP = json.dumps({"type": "step", "data": {"message": "one"}})


@pytest.fixture(scope="module")
def url(redis: RedisServer) -> str:
    return f"{redis.url}/6"


@pytest.fixture
def leaving(url: str) -> Iterator[Server]:
    with run_server(METAGAME_REDIS_URL=url, METAGAME_DRAIN_TIMEOUT_S="20") as server:
        yield server


@pytest.fixture(scope="module")
def staying(url: str) -> Iterator[Server]:
    with run_server(METAGAME_REDIS_URL=url) as server:
        yield server


async def test_a_draining_worker_is_not_ready_closes_named_sockets_and_lets_anonymous_ones_finish(
    leaving: Server, staying: Server
) -> None:
    async with (
        httpx.AsyncClient(base_url=leaving.url, trust_env=False) as http,
        await open_socket(leaving.url, "anonymous", None) as anonymous,
        await open_socket(leaving.url, "path", "drained") as named,
    ):
        assert (await http.get("/ready")).json() == {"status": "ready"}
        for socket in (anonymous, named):
            await socket.send(RESET)
            await socket.recv()
        leaving.process.send_signal(signal.SIGTERM)
        await named.wait_closed()
        assert named.close_code == 1012
        not_ready = await http.get("/ready")
        assert (not_ready.status_code, not_ready.json()) == (503, {"status": "draining"})
        with pytest.raises(OSError, match="Connect call failed"):
            await open_socket(leaving.url, "anonymous", None)
        for number in (1, 2):
            await anonymous.send(STEP)
            assert json.loads(await anonymous.recv())["data"]["metadata"]["step"] == number
        async with await open_socket(staying.url, "path", "drained") as again:
            await again.send(STEP)
            assert json.loads(await again.recv())["data"]["metadata"]["step"] == 1
        await anonymous.close()
    assert leaving.process.wait(15) in {0, -signal.SIGTERM}


async def test_an_episode_goes_on_at_another_worker_when_its_own_is_killed(leaving: Server, staying: Server) -> None:
    async with await open_socket(leaving.url, "path", "killed") as socket:
        await socket.send(RESET)
        await socket.recv()
        await socket.send(STEP)
        await socket.recv()
        leaving.kill()
        await socket.wait_closed()
    async with await open_socket(staying.url, "path", "killed") as again:
        await again.send('{"type": "state"}')
        assert json.loads(await again.recv())["data"] == {"episode_id": "e", "step_count": 1}
        await again.send(STEP)
        assert json.loads(await again.recv())["data"]["metadata"]["step"] == 2
