"""What the balancer sends again, on the HAProxy that compose runs: the tests of tests/balancer on that image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.balancer.conftest import (
    Balanced,
    balanced,
    durable_redis,
    faulty,
    faulty_first,
    http,
    pool,
    pool_workers,
    session_id,
    worker_behind_proxy,
)
from tests.balancer.test_sent_again import (
    test_a_handshake_whose_worker_dies_is_taken_to_the_other_one,
    test_a_reset_without_a_session_leaves_one_behind_not_two,
    test_a_step_by_curl_whose_worker_died_after_the_commit_is_answered_and_counted_once,
    test_a_step_of_our_http_client_whose_worker_died_after_the_commit_counts_once,
    test_no_second_session_is_made_by_a_key_that_names_none,
    test_the_largest_body_that_workers_take_is_sent_again_too,
)
from tests.containers.engine import ROOT, docker

__all__ = [
    "balanced",
    "durable_redis",
    "faulty",
    "faulty_first",
    "http",
    "pool",
    "pool_workers",
    "session_id",
    "test_a_handshake_whose_worker_dies_is_taken_to_the_other_one",
    "test_a_reset_without_a_session_leaves_one_behind_not_two",
    "test_a_step_by_curl_whose_worker_died_after_the_commit_is_answered_and_counted_once",
    "test_a_step_of_our_http_client_whose_worker_died_after_the_commit_counts_once",
    "test_no_second_session_is_made_by_a_key_that_names_none",
    "test_the_largest_body_that_workers_take_is_sent_again_too",
    "worker_behind_proxy",
]

pytestmark = pytest.mark.anyio
IMAGE = "haproxy:3.0"
IN_A_CONTAINER = """#!/bin/sh
name=metagame-test-haproxy-$$
echo "$name" >> "{folder}/names"
exec docker run --rm --name "$name" --network host --user "$(id -u)" \\
    $(env | sed -n 's/^\\(BALANCER_[A-Z_]*\\)=.*/--env \\1/p') \\
    --volume "{deploy}:{deploy}:ro" --volume "{configurations}:{configurations}:ro" {image} haproxy "$@"
"""


@pytest.fixture(autouse=True)
def _haproxy_3(
    docker_engine: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """`haproxy` is that of the image."""
    folder: Path = tmp_path_factory.mktemp("haproxy")
    command = folder / "haproxy"
    command.write_text(
        IN_A_CONTAINER.format(
            folder=folder, deploy=ROOT / "deploy", configurations=tmp_path_factory.getbasetemp(), image=IMAGE
        )
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    yield
    for name in (folder / "names").read_text().split():
        docker("rm", "--force", name, check=False)


async def test_it_is_that_release(balanced: Balanced) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        assert "HAProxy version 3.0" in (await client.get(balanced.balancer.stats_url)).text
