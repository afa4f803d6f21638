"""The `metagame` command. Here are its entry points; what it can do stands in `commands`.

Its table-drawing libraries come with the `server` extra, so a base install has the command but
not its parts: it then says what to install. Exit codes, everywhere: 0 done, 1 a check failed,
2 usage or settings, 3 unreachable, 130 interrupted.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys

from metagame._version import __version__

DONE, CHECK_FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3

_EXTRA = 'pip install "openenv-metagame[server]", or in a checkout: pip install ".[server]"'


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; `arguments` default to the process's own."""
    if os.getpid() == 1:
        # In a container the kernel drops a SIGTERM that process 1 has no handler for; the server takes over later.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(DONE))
    given = sys.argv[1:] if arguments is None else arguments
    if given == ["--version"]:
        sys.stdout.write(f"metagame {__version__}\n")
        sys.exit(DONE)
    if any(importlib.util.find_spec(name) is None for name in ("typer", "rich")):
        sys.stderr.write(f"The metagame command needs the server extra: {_EXTRA}\n")
        sys.exit(USAGE)
    from metagame.cli.commands import carry_out  # noqa: PLC0415 - not before it is known to be there

    carry_out(given)


def server() -> None:
    """OpenEnv's name for `metagame serve`."""
    main(["serve", *sys.argv[1:]])
