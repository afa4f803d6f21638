"""The server, where OpenEnv's tools look for it: `uvicorn server.app:app`, or `server` for a tuned one."""

import sys
from typing import Any

from metagame_server import app as served

from metagame import cli


def main() -> None:
    """Run `metagame serve` with the command line's own options."""
    cli.main(["serve", *sys.argv[1:]])


def __getattr__(name: str) -> Any:
    """`app`, made when a server asks for it."""
    return getattr(served, name)


if __name__ == "__main__":
    main()
