"""`python -m services.app` itself: several workers on one port, and settings that are wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from services.serve import url_of
from tests.redis_servers import RedisServer
from tests.servers import ROOT, run_server
from tests.survival.conftest import Pool
from tests.survival.load import Load
from tests.survival.workers import Worker, http, until

pytestmark = pytest.mark.anyio


def children_of(pid: int) -> set[int]:
    """The worker processes that this process started."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return {int(row[0]) for row in rows if int(row[1]) == pid and "spawn_main" in row[-1]}


async def test_a_killed_child_is_replaced_and_its_sessions_go_on(durable_redis: RedisServer) -> None:
    server = Worker(METAGAME_REDIS_URL=f"{durable_redis.url}/2", METAGAME_WORKERS="2")
    try:
        await asyncio.to_thread(server.start)
        parent = server.server.process.pid
        children = await until(lambda: len(found := children_of(parent)) == 2 and found, "two workers")
        async with Load(server.url) as load:
            killed = set()
            for child in children:
                os.kill(child, signal.SIGKILL)
                killed.add(child)
                await until(lambda: len(children_of(parent) - killed) == 2, "its replacement")
                await load.goes_on()
            await load.finish()
        server.send(signal.SIGTERM)
        assert await server.exit_code() == 0
        assert not children_of(parent)
    finally:
        if server.alive:
            server.send(signal.SIGTERM)
            await server.exit_code()
        server.end()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"METAGAME_WORKERS": "2"}, "METAGAME_REDIS_URL"),
        ({"METAGAME_PORT": "many"}, "METAGAME_PORT"),
        ({"METAGAME_MAX_SESSIONS": "0"}, "METAGAME_MAX_SESSIONS"),
        ({"METAGAME_REDIS_URL": "postgres://someone:hunter2@localhost/0"}, "METAGAME_REDIS_URL"),
        ({"METAGAME_REDIS_URL": "redis://someone:hunter2@localhost:0x1/0"}, "METAGAME_REDIS_URL"),
        ({"METAGAME_REDIS_URL": "redis://someone:hunter2@localhost/zero"}, "METAGAME_REDIS_URL"),
        ({"METAGAME_REDIS_URL": "postgres://someone:hun/hunter2@localhost/0"}, "'postgres://***@localhost/0'"),
        ({"METAGAME_REDIS_URL": "postgres://someone:h@n/hunter2\nhunter2@localhost/0"}, "METAGAME_REDIS_URL"),
        ({"METAGAME_REDIS_URL": "http://one:1?sentinel_password=n@hunter2&a=b"}, "METAGAME_REDIS_URL"),
        ({"METAGAME_REDIS_URL": "redis+sentinel://one:1?sentinel_password=hunter2"}, "METAGAME_REDIS_URL"),
        ({"METAGAME_REDIS_URL": "http://one:1/x?a=b&sentinel_password=hunter2"}, "METAGAME_REDIS_URL"),
        ({"METAGAME_REDIS_WAIT_REPLICAS": "1"}, "METAGAME_REDIS_WAIT_REPLICAS is 1, but without METAGAME_REDIS_URL"),
        ({"METAGAME_MODE": "training"}, "METAGAME_MODE is 'training', which is not allowed"),
        ({"OPENENV_MODE": "training"}, "OPENENV_MODE is 'training', which is not allowed"),
        ({"METAGAME_WEB": "maybe"}, "METAGAME_WEB is 'maybe', which is not allowed: must be true or false"),
        ({"ENABLE_WEB_INTERFACE": "2"}, "ENABLE_WEB_INTERFACE is '2', which is not allowed: must be true or false"),
        (
            {"METAGAME_REDIS_URL": "redis://localhost/0", "METAGAME_REDIS_WAIT_REPLICAS": "17"},
            "METAGAME_REDIS_WAIT_REPLICAS is '17', which is not allowed: Input should be less than or equal to 16",
        ),
    ],
    ids=[
        "workers without a Redis",
        "port",
        "sessions",
        "scheme",
        "address",
        "database",
        "a password with a slash",
        "a password with what no URL holds",
        "a sentinel's password with an @",
        "sentinels without a service",
        "a sentinel's password",
        "replicas without a Redis",
        "mode",
        "OpenEnv's mode",
        "the page",
        "OpenEnv's page",
        "replicas",
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_named(settings: dict[str, str], named: str) -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("METAGAME_")}
    done = subprocess.run(
        [sys.executable, "-m", "services.app"],
        cwd=ROOT,
        env=clean | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_a_port_in_use_stops_the_start_and_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("METAGAME_")}
        done = subprocess.run(
            [sys.executable, "-m", "services.app"],
            cwd=ROOT,
            env=clean | {"METAGAME_PORT": str(port)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"port {port}" in done.stderr
    assert "METAGAME_PORT" in done.stderr
    assert "Traceback" not in done.stderr


async def test_the_log_says_when_redis_goes_and_when_it_is_back(pool: Pool) -> None:
    worker = pool.workers[0]
    pool.redis.stop()
    try:
        await until(lambda: "the session store cannot be reached" in worker.server.log, "the warning")
    finally:
        pool.redis.start()
    await until(lambda: "the session store is back" in worker.server.log, "the all-clear")


async def test_a_password_that_redis_refuses_is_not_shown(durable_redis: RedisServer) -> None:
    url = durable_redis.url.replace("//", "//someone:hunter2@")
    worker = Worker(METAGAME_REDIS_URL=url, METAGAME_REDIS_TIMEOUT_S="0.5")
    try:
        await asyncio.to_thread(worker.start, until="/health")
        async with http(worker) as client:
            answers = [await client.get("/ready"), await client.post("/reset")]
        assert [answer.status_code for answer in answers] == [503, 503]
        shown = worker.server.log + "".join(answer.text for answer in answers)
        assert "hunter2" not in shown
    finally:
        worker.end()


def test_a_variable_that_is_no_setting_is_named_with_the_one_that_was_meant() -> None:
    shell = {"METAGAME_API_KEY": "a-clients-own"}  # no mistake: the command line reads it
    with run_server(METAGAME_MAX_SESIONS="5", METAGAME_LOG_FORMAT="json", **shell) as server:
        [line] = [json.loads(line) for line in server.log.splitlines() if "is no setting" in line]
    assert (line["level"], line["variable"]) == ("warning", "METAGAME_MAX_SESIONS")
    assert line["did_you_mean"] == ["METAGAME_MAX_SESSIONS"]


def test_an_ipv6_address_is_announced_as_urls_write_it() -> None:
    assert [url_of(host, 80) for host in ("::1", "127.0.0.1")] == ["http://[::1]:80", "http://127.0.0.1:80"]


def test_a_server_has_garbage_sought_less_often_and_not_in_what_it_started_with() -> None:
    asked = (
        "import gc; before = gc.get_threshold()[0]; import services.app as served; imported = gc.get_threshold()[0];"
        "served.app; print(before == imported < gc.get_threshold()[0], gc.get_freeze_count() > 10_000)"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("METAGAME_")}
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "True True"
