"""A game of somebody's own, served as the guide has it: by plain uvicorn."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.containers.engine import wait_until
from tests.redis_servers import free_port
from tests.servers import ROOT

APP = """
from services.app import open_app
from tests.games.pig import PigGame

app = open_app(PigGame())
"""


@contextmanager
def pig_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """The address of a server of the second game, and the file that all it writes is in."""
    Path(folder, "pig_server.py").write_text(APP)
    port, log = free_port(), folder / "log"
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "METAGAME_LOG_FORMAT": "json"}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "pig_server:app", "--port", str(port)],
            env=env,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(url), "the server")
        yield url, log
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
