"""`python -m chaos`: run, print, judge.

Exit codes: 0 clean, 1 a violation, an error of our client, or a kind of fault that hit nothing in flight,
2 usage or something missing, 130 interrupted. Whichever it is, nothing is left running.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from chaos import options as command_line
from chaos.options import Options
from chaos.pool import HAPROXY_CONFIGURATION, NotReady
from chaos.processes import StartFailed
from chaos.redis_nodes import NotWell
from chaos.run import run

FAILED, USAGE, INTERRUPTED = 1, 2, 130
_NEEDED = {
    "redis-server": "sudo apt-get install redis-server; on macOS: brew install redis",
    "haproxy": "sudo apt-get install haproxy; on macOS: brew install haproxy",
}


def main() -> None:
    """The command."""
    # A SIGTERM ends it just as Ctrl-C does: through every `finally`, so that no child stays. In the
    # background of a script Ctrl-C's signal is ignored from the start, so its handler is set as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    options = command_line.parse()
    if missing := _missing(options):
        sys.exit(_refuse(missing))
    try:
        code = _run(options)
    except KeyboardInterrupt:
        print("Stopped; nothing is left running.", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)


def _run(options: Options) -> int:
    # What a run prints on its way is not its result.
    progress = Console(stderr=True, highlight=False)

    def say(text: str) -> None:
        progress.print(text, markup=False, soft_wrap=True)

    say(f"seed {options.seed}: {len(options.plan)} faults in {options.duration_s:g} s")
    for fault in options.plan:
        say(str(fault))
    try:
        with _folder(options.keep) as folder:
            report = asyncio.run(run(options, folder, say))
            if options.keep is not None:
                (folder / "report.json").write_text(json.dumps(report.as_json(), indent=1) + "\n")
    except (NotReady, NotWell, StartFailed) as failed:
        return _refuse(f"The pool did not come up: {failed}")
    if options.as_json:
        print(json.dumps(report.as_json()))
    else:
        report.print(Console(highlight=False))
    return 0 if report.passed else FAILED


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="metagame-chaos-") as folder:
        yield Path(folder)


def _missing(options: Options) -> str | None:
    """What the machine or the checkout lacks, and how to get it."""
    if options.keep is not None and options.keep.exists() and any(options.keep.iterdir()):
        return f"--keep {options.keep}: the folder is not empty. Name another."
    if options.compose:
        return (
            None if shutil.which("docker") else "chaos --compose needs docker: https://docs.docker.com/engine/install"
        )
    for program, how in _NEEDED.items():
        if shutil.which(program) is None:
            return f"chaos needs {program}: {how}"
    if not HAPROXY_CONFIGURATION.exists():
        return f"chaos runs from a checkout: {HAPROXY_CONFIGURATION} is not there"
    return None


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return USAGE


if __name__ == "__main__":
    main()
