"""The `metagame` command as somebody types it: into a pipe, or on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WAIT_S = 60.0
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()=>][0-9A-Z]?")


def metagame(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command's end, its output in pipes and nothing to read."""
    return subprocess.run(
        [sys.executable, "-m", "metagame", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
        timeout=120,
    )


def objects(*arguments: str, code: int = 0, **environment: str) -> list[dict[str, Any]]:
    """The JSON objects that the command prints, one a line, and nothing else."""
    done = metagame(*arguments, "--json", **environment)
    assert done.returncode == code, done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(one["schema_version"] == 1 for one in found)
    return found


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        self.process = process
        self._end = end
        self._raw = ""

    @property
    def text(self) -> str:
        """All that was shown so far, without what moves the cursor."""
        return _CONTROL.sub("", self._raw).replace("\r\n", "\n")

    @property
    def widest(self) -> int:
        """The longest line."""
        return max(len(line.rpartition("\r")[2]) for line in self.text.split("\n"))

    def types(self, text: str) -> None:
        os.write(self._end, text.encode())

    def until(self, *wanted: str) -> str:
        """Read until all of these were shown."""
        ends = time.monotonic() + WAIT_S
        while not all(one in self.text for one in wanted):
            left = ends - time.monotonic()
            assert left > 0, f"{wanted} was not shown:\n{self.text}"
            ready, _, _ = select.select([self._end], [], [], left)
            assert ready, f"{wanted} was not shown:\n{self.text}"
            if not self._read():
                assert all(one in self.text for one in wanted), f"{wanted} was not shown:\n{self.text}"
        return self.text

    def ends(self, number: signal.Signals | None = None) -> int:
        """Its exit code, once a signal, if any, has ended it."""
        if number is not None:
            self.process.send_signal(number)
        while self._read():
            pass
        return self.process.wait(WAIT_S)

    def _read(self) -> bool:
        try:
            chunk = os.read(self._end, 65_536)
        except OSError:  # how a terminal ends
            return False
        self._raw += chunk.decode(errors="replace")
        return bool(chunk)


@contextmanager
def on_terminal(*arguments: str, columns: int = 80, lines: int = 40, **environment: str) -> Iterator[Terminal]:
    """The command running on a terminal of this size."""
    end, theirs = pty.openpty()
    size = {"COLUMNS": str(columns), "LINES": str(lines), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "metagame", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | size | environment,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(process, end)
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            os.close(end)
