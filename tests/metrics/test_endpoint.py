"""`GET /metrics` itself: its text, what it says besides counts, and what it costs who never asks."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from websockets.sync.client import connect

from metagame import __version__
from services.surfaces.metrics import COUNT_TIMEOUT_S
from tests.behaviour.apps import running_app
from tests.metrics.scraped import read, scrape
from tests.redis_servers import RedisServer, redis_server
from tests.servers import ROOT, run_server


def test_it_is_prometheus_text_and_openmetrics_where_that_is_asked_for() -> None:
    with running_app() as url, httpx.Client(base_url=url, trust_env=False) as http:
        plain = http.get("/metrics")
        assert plain.headers["content-type"].startswith("text/plain; version=")
        assert read(plain.text).value("metagame_requests_total") == 0
        asked = http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
        assert asked.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert asked.text.endswith("# EOF\n")
        names = {family.name for family in text_string_to_metric_families(asked.text)}  # type: ignore[no-untyped-call]
        assert {"metagame_requests", "metagame_request_duration_seconds", "metagame_attached_sessions"} <= names


def test_it_says_what_runs_and_what_the_pool_holds() -> None:
    with running_app(max_sessions=7) as url, httpx.Client(base_url=url, trust_env=False) as http:
        for _ in range(3):
            http.post("/sessions", json={})
        told = scrape(url)
        assert told.value("metagame_build_info", version=__version__, game="meta_game") == 1
        assert told.value("metagame_resident_sessions") == 3
        assert told.value("metagame_max_sessions") == 7
        assert told.counted("metagame_workers", "state") == {("serving",): 1}
        assert told.value("metagame_resident_bytes") > 1_000_000
        assert told.value("metagame_cpu_seconds_total") > 0
        assert not told.has("metagame_redis_up")


def test_every_name_is_of_this_project() -> None:
    with running_app() as url:
        assert {one.name.partition("_")[0] for one in scrape(url).samples} == {"metagame"}


def test_on_redis_it_says_how_that_answers(redis_at: RedisServer) -> None:
    with running_app(redis_url=redis_at.url) as url, httpx.Client(base_url=url, trust_env=False) as http:
        assert http.post("/sessions/s/reset", json={}).status_code == 200
        assert http.post("/sessions/s/step", json={"action": {"message": "one"}}).status_code == 200
        told = scrape(url)
        assert told.value("metagame_redis_up") == 1
        assert told.value("metagame_redis_full") == 0
        assert told.value("metagame_resident_sessions") == 1
        batches = told.value("metagame_redis_batch_commands_count")
        assert batches >= 4
        assert told.value("metagame_redis_batch_commands_sum") >= batches
        assert told.value("metagame_redis_round_trip_seconds_count") == batches
        assert 0 < told.value("metagame_redis_round_trip_seconds_sum") < 60


def test_without_redis_it_says_all_but_what_redis_knows(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, running_app(redis_url=redis.url) as url:
        assert scrape(url).value("metagame_resident_sessions") == 0
        redis.stop()
        told = scrape(url)
        assert not told.has("metagame_resident_sessions")
        assert told.value("metagame_max_sessions") == 10_000
        assert told.value("metagame_redis_given_up_total") >= 1


def test_a_redis_that_hangs_holds_a_scrape_up_for_no_longer_than_it_may(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, running_app(redis_url=redis.url) as url:
        scrape(url)
        with redis.asleep():
            began = time.monotonic()
            told = scrape(url)
            assert time.monotonic() - began < COUNT_TIMEOUT_S + 2
        assert not told.has("metagame_resident_sessions")


@pytest.mark.parametrize("mode", ["simulation", "production"])
def test_both_modes_have_it_and_a_root_path_changes_nothing(mode: str) -> None:
    with running_app(mode=mode, root_path="/envs/metagame") as url:
        assert scrape(url).has("metagame_build_info")
        assert scrape(f"{url}/envs/metagame").has("metagame_build_info")


def test_a_worker_that_nobody_scrapes_has_not_loaded_what_writes_the_text() -> None:
    look = "import sys, services.app; services.app.app; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_a_server_that_drains_says_so() -> None:
    """It takes no new connection by then, so this is asked on one from before; an anonymous socket keeps it there."""
    with run_server(METAGAME_DRAIN_TIMEOUT_S="30") as server, httpx.Client(trust_env=False) as http:
        with connect(f"{server.ws_url}/ws", proxy=None):
            assert read(http.get(f"{server.url}/metrics").text).counted("metagame_workers", "state") == {
                ("serving",): 1
            }
            server.process.terminate()
            deadline = time.monotonic() + 10
            while "worker draining" not in server.log:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert read(http.get(f"{server.url}/metrics").text).counted("metagame_workers", "state") == {
                ("draining",): 1
            }
        assert server.process.wait(20) == 0
