"""Tests that need a Docker engine and the base images, python:3.13-slim and redis:8 among them.

Without an engine they are skipped, which names docker; with METAGAME_TEST_CONTAINERS=require they
fail instead. The image is built from the checkout, under the name that users give it.
"""

from __future__ import annotations

import fcntl

import pytest

from tests.containers import engine


@pytest.fixture(scope="session")
def docker_engine() -> None:
    """An engine that answers; else the test is skipped, or fails where containers are required."""
    if (reason := engine.why_not()) is not None:
        if engine.REQUIRED:
            pytest.fail(f"METAGAME_TEST_CONTAINERS=require, but {reason}")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def image(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, built from the checkout; processes that test side by side build one after the other."""
    lock = tmp_path_factory.getbasetemp().parent / "metagame-image.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # the next build finds every layer in the cache
        engine.docker("build", "--quiet", "--tag", engine.IMAGE, "--file", "deploy/Dockerfile", ".")
    return engine.IMAGE
