"""Interpreters that have unmodified OpenEnv installed, and the clients that run in them."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers import ROOT

CLOSED = ("ConnectionClosed", "ConnectionError: Failed to connect")
"""How OpenEnv's client says that its socket was closed, or that it could not open another."""
STATE_S = 60.0
SCRIPT = Path(__file__).with_name("openenv_clients.py")


class StockClients:
    """A process of another interpreter that carries out one command at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    async def call(self, command: str, **arguments: Any) -> Any:
        """What the client returned; what it raised fails the test."""
        answer = await self._ask(command, arguments)
        assert "result" in answer, answer
        return answer["result"]

    async def unless_closed(self, command: str, **arguments: Any) -> Any | None:
        """What the client returned; None where its socket was closed or none could be opened. Nothing else may be."""
        answer = await self._ask(command, arguments)
        if "error" not in answer:
            return answer["result"]
        assert answer["error"].startswith(CLOSED), answer
        return None

    async def step_and_state(self, name: str, taken: int) -> tuple[str, int]:
        """One step of `abc`, and where the client then stands; at worst its socket was closed, and it asks again."""
        answered = await self.unless_closed("step", name=name)
        assert answered in ([taken + 1, 0.3], None)
        async with asyncio.timeout(STATE_S):
            while (said := await self.unless_closed("state", name=name)) is None:  # noqa: ASYNC110 - its only way
                await asyncio.sleep(0.05)
        episode, stands = said
        assert stands in ({taken, taken + 1} if answered is None else {taken + 1})
        return episode, stands

    async def raises(self, command: str, **arguments: Any) -> str:
        """What the client raised, as `Type: text`."""
        answer = await self._ask(command, arguments)
        assert "error" in answer, answer
        error: str = answer["error"]
        return error

    async def _ask(self, command: str, arguments: dict[str, Any]) -> Any:
        return await asyncio.to_thread(self._exchange, json.dumps({"command": command, **arguments}))

    def _exchange(self, line: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def stock_clients(which: str, python: str, script: Path = SCRIPT) -> Iterator[StockClients]:
    """Clients of the kind that the script calls `which`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("METAGAME_")}
    process = subprocess.Popen(
        [python, "-I", str(script), which],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    try:
        yield StockClients(process)
    finally:
        process.kill()
        process.communicate()


def interpreter(variable: str, folder: str) -> str:
    """The interpreter that the variable names; without one, that of a folder that the Makefile fills."""
    return os.environ.get(variable) or str(made(folder) / "bin" / "python")


def made(folder: str) -> Path:
    """A folder that the Makefile fills, filled."""
    (ROOT / ".venvs").mkdir(exist_ok=True)
    with (ROOT / ".venvs" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may want it at once
        subprocess.run(["make", "-s", "-C", str(ROOT), f"{folder}/.installed"], check=True, stdout=subprocess.DEVNULL)
    return ROOT / folder
