"""The workers of one machine under one supervisor, which is none of them: it starts them, and others when they die.

What a worker's death costs its clients is a reconnect; why it died only its supervisor knows, and says it.
"""

from __future__ import annotations

import signal
from typing import Any

import structlog
from uvicorn.supervisors import Multiprocess

NAME = "supervisor"
"""In its log lines, where those of workers have their id."""

log = structlog.get_logger()


class Supervisor(Multiprocess):
    """uvicorn's, which tells of the workers that it replaces."""

    def keep_subprocess_alive(self) -> None:
        """Replace the dead, and those that give no sign of life, which it kills first."""
        before = list(self.processes)
        living = [process for process in before if process.process.is_alive()]
        super().keep_subprocess_alive()
        for process in before:
            if process not in self.processes:
                hung = {"reason": "it gave no sign of life"} if process in living else {}
                log.warning("worker died", pid=process.pid, **_end(process.exitcode), **hung)


def _end(exitcode: int | None) -> dict[str, Any]:
    """How a process ended: by a signal, or with a code."""
    if exitcode is None or exitcode >= 0:
        return {"exit_code": exitcode}
    try:
        return {"signal": signal.Signals(-exitcode).name}
    except ValueError:  # a real-time signal has no name
        return {"signal": str(-exitcode)}
