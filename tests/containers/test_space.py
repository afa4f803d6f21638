"""The image of the Space's folder, built and run as a Space does it, and by OpenEnv's own tools."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from metagame import MetaGameAction, MetaGameEnv
from tests.containers.engine import Container, container, docker, inspect, network
from tests.openenv.conftest import Driver, drive, openenv, staged, uv
from tests.openenv.test_space import NEEDS_A_HELPER_IMAGE, NO_GRADER_YET, PASSED

__all__ = ["drive", "openenv", "staged", "uv"]

PUBLISHED = ("--publish", "127.0.0.1::8000")


@pytest.fixture(scope="module")
def space_image(docker_engine: None, staged: Path) -> Iterator[str]:
    name = f"metagame-space-{uuid4().hex[:12]}"
    docker("build", "--quiet", "--tag", name, str(staged))
    yield name
    docker("rmi", "--force", name, check=False)


@pytest.fixture(scope="module")
def alone(space_image: str) -> Iterator[Container]:
    """As a Space starts it: no variable set, uid 1000."""
    with container(*PUBLISHED, "--user", "1000", image=space_image) as running:
        running.wait_ready()
        yield running


def play(url: str) -> float | None:
    with MetaGameEnv(url) as env:
        env.reset()
        return env.step(MetaGameAction(message="abc")).reward


def test_it_serves_alone_on_port_8000(alone: Container, space_image: str) -> None:
    assert play(alone.url) == 0.3
    for path in ("/health", "/docs", "/web/", "/web/main.js"):
        assert httpx.get(alone.url + path, trust_env=False).status_code == 200
    config = inspect(space_image)["Config"]
    assert set(config["ExposedPorts"]) == {"8000/tcp"}
    assert not config.get("Volumes")
    assert "lost with it" in alone.log


def test_it_takes_its_redis_from_a_secret_and_another_container_goes_on_there(space_image: str) -> None:
    secret = ("--env", "METAGAME_REDIS_URL=redis://redis")
    with (
        network() as net,
        container("--network", net, "--network-alias", "redis", image="redis:8"),
        container(*PUBLISHED, "--network", net, *secret, image=space_image) as one,
        container(*PUBLISHED, "--network", net, *secret, image=space_image) as other,
    ):
        one.wait_ready()
        other.wait_ready()
        first = MetaGameEnv(one.url, session_id="kept")
        first.reset()
        first.step(MetaGameAction(message="abc"))
        with MetaGameEnv(other.url, session_id="kept") as env:
            assert env.step(MetaGameAction(message="abc")).metadata["step"] == 2


def test_a_stop_ends_it_at_once_and_in_order(space_image: str) -> None:
    with container(*PUBLISHED, image=space_image) as running:
        running.wait_ready()
        docker("stop", running.name)
        assert running.exit_code() == 0


def test_openenv_builds_runs_and_validates_it(docker_engine: None, openenv: Path, staged: Path) -> None:
    command = [str(openenv.with_name("openenv")), "validate", str(staged), "--level", "runtime", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = {one["check_id"]: one["status"] for one in json.loads(done.stdout)["results"]}
    assert {name for name, status in results.items() if status == "pass"} == PASSED
    assert {name for name, status in results.items() if status == "skip"} == NO_GRADER_YET | NEEDS_A_HELPER_IMAGE
    assert results.keys() == PASSED | NO_GRADER_YET | NEEDS_A_HELPER_IMAGE


def test_openenvs_client_class_starts_the_image_in_a_container_and_removes_it(drive: Driver, space_image: str) -> None:
    before = docker("ps", "--all", "--quiet", "--filter", f"ancestor={space_image}")
    assert drive("contained", space_image) == [["straight", 0.3], ["sync", 0.3], ["awaited", 0.3]]
    assert docker("ps", "--all", "--quiet", "--filter", f"ancestor={space_image}") == before
