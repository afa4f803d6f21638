"""The Docker engine that the tests use: the one `docker` finds, by DOCKER_HOST and DOCKER_CONFIG where they are set."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "meta_game-env:latest"
REQUIRED = os.environ.get("METAGAME_TEST_CONTAINERS") == "require"
"""Set where the tests must not be skipped: without an engine they then fail."""
COMMAND_DEADLINE_S = 120.0
HEALTHY_DEADLINE_S = 30.0
"""The image's promise."""


def why_not() -> str | None:
    """What keeps these tests from an engine, or None."""
    if shutil.which("docker") is None:
        return "docker is not installed: the container tests need it, and an engine that it reaches"
    asked = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
    )
    return None if asked.returncode == 0 else f"docker reaches no engine: {asked.stderr.strip()}"


def docker(*arguments: str, check: bool = True, both: bool = False) -> str:
    """Run one docker command; what it wrote to stdout, or to both streams. Fails with both unless told not to check."""
    done = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if both else subprocess.PIPE,
        text=True,
        check=False,
        timeout=COMMAND_DEADLINE_S,
    )
    assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}\n{done.stdout}{done.stderr or ''}"
    return done.stdout.strip()


def inspect(name: str) -> Any:
    """Everything the engine knows of a container, image or network."""
    return json.loads(docker("inspect", name))[0]


def wait_until(holds: Callable[[], bool], what: str, *, deadline_s: float = HEALTHY_DEADLINE_S) -> None:
    """Return as soon as it holds; fail, saying what did not come, at the deadline."""
    deadline = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a test."""

    name: str

    @property
    def url(self) -> str:
        """Where its port 8000 is published."""
        return f"http://{docker('port', self.name, '8000').splitlines()[0]}"

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return docker("logs", self.name, both=True)

    @property
    def state(self) -> Any:
        """The engine's State: Status, ExitCode, Health."""
        return inspect(self.name)["State"]

    def wait_ready(self) -> None:
        """Return once it answers."""
        url = self.url
        wait_until(lambda: _answers(url), f"{self.name} ready")

    def exit_code(self) -> int:
        """Wait for its end; the exit code."""
        return int(docker("wait", self.name))


@contextmanager
def container(*options: str, image: str = IMAGE, command: tuple[str, ...] = ()) -> Iterator[Container]:
    """A container of the image, removed with the block."""
    name = f"metagame-test-{uuid4().hex[:12]}"
    try:
        docker("run", "--detach", "--name", name, *options, image, *command)
        yield Container(name)
    finally:
        docker("rm", "--force", "--volumes", name, check=False)


@contextmanager
def network() -> Iterator[str]:
    """A network of its own, removed with the block."""
    name = f"metagame-test-{uuid4().hex[:12]}"
    docker("network", "create", name)
    try:
        yield name
    finally:
        docker("network", "rm", name, check=False)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", trust_env=False, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
