"""Child processes that are killed and started again on the same port, without holding up the event loop."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

START_DEADLINE_S = 30.0
LEAVE_DEADLINE_S = 15.0
_POLL_S = 0.01
_PR_SET_PDEATHSIG = 1
_SETTINGS = frozenset({"HOST", "PORT", "WORKERS", "MAX_CONCURRENT_ENVS", "OPENENV_MODE", "ENABLE_WEB_INTERFACE"})
_PORTS = range(10_000, 32_000)
"""Below the ports that the kernel gives to outgoing connections: one of those must not sit on a dead worker's."""
_given: set[int] = set()
_draw = random.SystemRandom()


class StartFailed(Exception):
    """A child did not come to listen; the text is the end of what it wrote."""


class Process:
    """One program on one port; `start` after `kill` or `leave` starts it anew, its log goes on."""

    def __init__(self, name: str, command: Sequence[str], port: int, log: Path, settings: Mapping[str, str]) -> None:
        self.name = name
        self.port = port
        self._command = list(command)
        self._log = log
        self._environment = clean_environment() | dict(settings)
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start, and return once it listens; raises StartFailed."""
        with self._log.open("ab") as log:
            process = self._process = subprocess.Popen(  # noqa: ASYNC220 - a fork of milliseconds; in a thread, the kernel would end the child with that thread
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,  # Ctrl-C reaches only the parent, which stops its children in order
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - this thread only
            )
        await self._wait_until_listening(process)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would, and return once it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def gone(self) -> int:
        """Wait until it has left by itself, and kill it if it does not; its exit code."""
        assert self._process is not None  # noqa: S101 - it was started
        loop = asyncio.get_running_loop()
        until = loop.time() + LEAVE_DEADLINE_S
        while (code := self._process.poll()) is None and loop.time() < until:  # noqa: ASYNC110 - a child tells nobody
            await asyncio.sleep(_POLL_S)
        self.kill()
        return -signal.SIGKILL if code is None else code

    async def _wait_until_listening(self, process: subprocess.Popen[bytes]) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + START_DEADLINE_S
        while process.poll() is None and loop.time() < until:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(_POLL_S)
            else:
                writer.close()
                return
        said = self._log.read_text(errors="replace")[-2000:].strip()
        message = f"{self.name} did not start: {said or f'no answer on port {self.port}'}"
        raise StartFailed(message)


def fixed_port() -> int:
    """A free loopback port that stays usable while nobody listens on it."""
    while True:
        port = _draw.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


def clean_environment() -> dict[str, str]:
    """The environment without a server's settings."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.upper().startswith(("METAGAME_", "BALANCER_")) and key.upper() not in _SETTINGS
    }


def _die_with_parent() -> None:
    # A stopped process takes no other signal.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
