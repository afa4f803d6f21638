"""Builds the documentation, or serves it while it is written.

    python -m docsite [build | serve] [--site-dir FOLDER]

A broken link, an anchor that is not there or a page that the navigation lacks is an error. Nothing is fetched.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = "127.0.0.1:8001"
"""Beside a server of the environment on its usual port."""


def main(arguments: list[str] | None = None) -> int:
    """Run mkdocs as this project needs it; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m docsite", description="Build the documentation.")
    parser.add_argument("what", nargs="?", choices=["build", "serve"], default="build", help="default: build")
    parser.add_argument("--site-dir", type=Path, default=ROOT / "build" / "docs", help="default: build/docs")
    given = parser.parse_args(arguments)
    folder = given.site_dir.resolve()
    rest = ["--clean", "--quiet", "--site-dir", str(folder)] if given.what == "build" else ["--dev-addr", ADDRESS]
    # Links in what is generated are relative to this folder, and so is what the hooks import.
    command = [sys.executable, "-m", "mkdocs", given.what, "--strict", *rest]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)  # noqa: S603 - our own arguments
    except KeyboardInterrupt:
        return 0
    if done.returncode == 0 and given.what == "build":
        sys.stdout.write(f"Built {folder}. To look at it: make docs ARGS=serve\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
