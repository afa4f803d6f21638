"""The profile `observe` on a real engine: Prometheus finds the workers by DNS, as many as there are.

Of Grafana there is no image to be had here; tests/deploy/test_observe.py holds its files against Prometheus.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.containers import engine
from tests.containers.compose import ComposePool, compose_pool
from tests.redis_servers import free_port

IMAGE = "prom/prometheus:v2.53"


@pytest.fixture(scope="module")
def watched(image: str) -> Iterator[tuple[ComposePool, str]]:
    """A pool with Prometheus, and where that answers."""
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode:
        refuse = pytest.fail if engine.REQUIRED else pytest.skip
        refuse(f"the image {IMAGE} is not here")
    port = free_port()
    asked = {"COMPOSE_PROFILES": "observe", "PROMETHEUS_IMAGE": IMAGE, "PROMETHEUS_PORT": str(port)}
    with compose_pool(**asked) as pool:
        pool.compose("up", "--detach", "--no-build", "--wait", "prometheus")
        yield pool, f"http://127.0.0.1:{port}"


def ask(url: str, query: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{url}/api/v1/query", params={"query": query}, trust_env=False).json()
    assert answer["status"] == "success", answer
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def value(url: str, query: str) -> float:
    """The one value, or 0 where there is none yet."""
    return sum(float(one["value"][1]) for one in ask(url, query))


def test_every_worker_is_asked_and_so_is_the_balancer(watched: tuple[ComposePool, str]) -> None:
    pool, url = watched
    engine.wait_until(lambda: value(url, 'sum(up{job="metagame"})') == 2, "two workers asked")
    engine.wait_until(lambda: value(url, 'up{job="balancer"}') == 1, "the balancer asked")
    pool.scale(3)
    engine.wait_until(lambda: value(url, 'sum(up{job="metagame"})') == 3, "the third worker asked")


def test_what_clients_do_is_seen(watched: tuple[ComposePool, str]) -> None:
    pool, url = watched
    engine.wait_until(lambda: bool(ask(url, "metagame_commits_total")), "the first scrape")
    before = value(url, 'sum(metagame_commits_total{command="reset",outcome="committed"})')
    for _ in range(5):
        assert httpx.post(f"{pool.url}/reset", json={}, trust_env=False).status_code == 200
    resets = 'sum(metagame_commits_total{command="reset",outcome="committed"})'
    engine.wait_until(lambda: value(url, resets) == before + 5, "the resets counted")
    assert value(url, "max(metagame_resident_sessions)") >= 5


def test_clients_do_not_see_it(watched: tuple[ComposePool, str]) -> None:
    pool, _ = watched
    assert httpx.get(f"{pool.url}/metrics", trust_env=False).status_code == 404
