"""A pool of `docker compose`, under a project name and on ports of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import httpx

from tests.balancer.haproxy import StatsPage
from tests.containers import engine
from tests.redis_servers import free_port

COMMAND_DEADLINE_S = 240.0
_OURS = ("METAGAME_", "BALANCER_", "COMPOSE_", "REDIS_", "BIND", "IMAGE", "WORKERS", "TLS_PEM", "NOFILE", "STOP_GRACE_")
_A_MAKE = ("MAKE", "MFLAGS", "ARGS")
"""What the `make` that runs the tests tells every other one."""


class ComposePool(StatsPage):
    """The services of docker-compose.yml; `settings` are variables that every command sees."""

    def __init__(self, **settings: str) -> None:
        port, stats_port = free_port(), free_port()
        super().__init__(f"http://127.0.0.1:{stats_port}")
        self.port = port
        self.url = f"{'https' if 'TLS_PEM' in settings else 'http'}://127.0.0.1:{port}"
        self.project = f"metagame-test-{uuid4().hex[:8]}"
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith(_OURS + _A_MAKE)} | {
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_ENV_FILES": os.devnull,  # no .env of whoever runs the tests
            "PORT": str(port),
            "STATS_PORT": str(stats_port),
            **settings,
        }

    def run(self, *command: str, code: int = 0, **settings: str) -> str:
        """Run a command in the checkout; what it wrote. Fails with that unless it ends with this code."""
        done = subprocess.run(
            command,
            cwd=engine.ROOT,
            env=self._environment | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=COMMAND_DEADLINE_S,
        )
        assert done.returncode == code, f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}"
        return done.stdout

    def compose(self, *arguments: str) -> str:
        """Run one command of docker compose."""
        return self.run("docker", "compose", *arguments)

    def containers(self, service: str) -> list[str]:
        """The service's running containers."""
        return self.compose("ps", "--quiet", "--status", "running", service).split()

    def scale(self, workers: int) -> None:
        """Have this many workers, all in rotation."""
        self.compose("up", "--detach", "--no-deps", "--no-recreate", "--scale", f"worker={workers}", "worker")
        engine.wait_until(lambda: len(self.serving()) == workers, f"{workers} workers in rotation")

    def serving(self) -> set[str]:
        """The workers in rotation whose last check passed, by their addresses."""
        return {
            row["addr"]
            for row in self.stats().values()
            if row["status"].startswith("UP") and row["check_status"] == "L7OK"
        }

    def first_answer_s(self) -> float:
        """Seconds from the beginning of `make up` to the first answer of a worker."""
        started = time.monotonic()
        self.run("make", "up")
        assert httpx.post(f"{self.url}/reset", trust_env=False).status_code == 200
        return time.monotonic() - started


@contextmanager
def compose_pool(**settings: str) -> Iterator[ComposePool]:
    """A pool that is not started yet; what it has made is removed with the block, its volume too."""
    pool = ComposePool(**settings)
    try:
        yield pool
    finally:
        pool.compose("down", "--volumes", "--timeout", "1")
