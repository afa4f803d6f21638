"""How a command ends: with an exit code, a refusal that says what to do, one JSON object, or a signal.

Nothing heavy is imported here: `serve` and `--help` start as fast as they can.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

SCHEMA_VERSION = 1
INTERRUPTED = 130


class Refused(Exception):
    """The command cannot do its work; the text says why and what to do, `code` is the exit code."""

    def __init__(self, code: int, text: str, **shown: Any) -> None:
        super().__init__(text)
        self.code = code
        self.shown = {**shown, "error": text}
        """What `--json` prints of it."""


def print_json(command: str, fields: dict[str, Any]) -> None:
    """One JSON object on a line of its own."""
    sys.stdout.write(json.dumps({"schema_version": SCHEMA_VERSION, "command": command} | fields) + "\n")
    sys.stdout.flush()


def run(
    command: str, work: Callable[[], int], *, as_json: bool, judges: bool = False, stopped: str | None = None
) -> NoReturn:
    """Exit with what this returns; a signal ends it through every `finally`, so that nothing of it stays.

    `judges`: the command comes to a verdict, and a refusal is none that passed. `stopped` is said where a signal
    ended it.
    """
    # In the background of a script Ctrl-C's signal is ignored from the start, so its handler is set as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        code = work()
    except Refused as refused:
        sys.stderr.write(f"{refused}\n")
        if as_json:
            print_json(command, ({"passed": False} if judges else {}) | refused.shown)
        code = refused.code
    except KeyboardInterrupt:
        if stopped is not None:
            sys.stderr.write(f"{stopped}\n")
        code = INTERRUPTED
    sys.exit(code)
