"""Two workers on a Redis Cluster, and on a Redis that Sentinel names."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.redis_servers import RedisServer, free_port
from tests.survival.load import CountingBalancer, Load
from tests.survival.test_alternating import http_alternates, sockets_alternate
from tests.survival.workers import Worker, running, until, workers

pytestmark = pytest.mark.anyio


@contextmanager
def sentinel(folder: Path, primary: RedisServer) -> Iterator[int]:
    """A sentinel that watches one primary under the name `metagame`; its port."""
    port = free_port()
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor metagame 127.0.0.1 {primary.port} 1\n"
    )
    binary = shutil.which("redis-server")
    assert binary is not None
    with (folder / "sentinel.log").open("wb") as log:
        process = subprocess.Popen([binary, str(config), "--sentinel"], stdout=log, stderr=log)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


async def steps_alternate_and_resume(several: list[Worker]) -> None:
    await http_alternates(several, uuid4().hex)
    await sockets_alternate(several, uuid4().hex)
    balancer = CountingBalancer([worker.port for worker in several])
    async with balancer.listening() as url, Load(url) as load:
        several[0].kill()
        await load.goes_on()
        await running(several[0])
        await load.finish()


async def test_sessions_on_a_cluster_step_alternate_and_resume(cluster_at: list[RedisServer]) -> None:
    addresses = ",".join(f"127.0.0.1:{server.port}" for server in cluster_at)
    with workers(2, METAGAME_REDIS_URL=f"redis+cluster://{addresses}") as several:
        await steps_alternate_and_resume(several)


async def test_sessions_on_a_redis_that_sentinel_names_step_alternate_and_resume(
    redis_at: RedisServer, tmp_path: Path
) -> None:
    with sentinel(tmp_path, redis_at) as port:
        with Redis(port=port) as asked:
            await until(lambda: answers(asked), "the sentinel")
        with workers(2, METAGAME_REDIS_URL=f"redis+sentinel://127.0.0.1:{port}/metagame/0") as several:
            await steps_alternate_and_resume(several)


def answers(asked: Redis) -> bool:
    try:
        return bool(asked.ping())
    except RedisError:
        return False
