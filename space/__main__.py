"""Stages the folder that `openenv push` uploads and `openenv validate` checks.

    python -m space [FOLDER] [--uv UV]

Nothing in it is written by hand twice: the packages are the wheel's, the manifest and the README's front matter the
project's, the few files of OpenEnv's layout those of deploy/space, and the pins are made by uv as the folder is
staged. A folder of an earlier run is replaced in one move; any other is left alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OVERLAY = ROOT / "deploy" / "space"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
APP, SPACE_APP = "app: services.app:app\n", "app: server.app:app\n"
_LEFT_BEHIND = shutil.ignore_patterns("__pycache__", "*.py[cod]")


class StageError(Exception):
    """The folder cannot be staged; the text says what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Stage the folder and say what to do with it; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m space", description="Stage a folder for `openenv push`.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build" / "space", help="default: build/space")
    parser.add_argument("--uv", default="uv", help="the uv that makes uv.lock")
    given = parser.parse_args(arguments)
    try:
        stage(given.folder, given.uv)
    except StageError as wrong:
        sys.stderr.write(f"space: {wrong}\n")
        return 2
    sys.stdout.write(f"Staged {given.folder}. To upload it: openenv push {given.folder} --repo-id <user>/<space>\n")
    return 0


def stage(folder: Path, uv: str) -> None:
    """Make the folder, or raise StageError and change nothing."""
    if folder.exists() and not _is_ours(folder):
        message = f"{folder} holds something else than an earlier run's folder. Name another, or remove it."
        raise StageError(message)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".space-", dir=folder.parent) as scratch:
        made = Path(scratch, "made")
        shutil.copytree(OVERLAY, made, ignore=_LEFT_BEHIND)
        _packages(made)
        _texts(made)
        _pins(made, uv)
        made.chmod(0o755)
        if folder.exists():
            folder.rename(Path(scratch, "replaced"))
        made.rename(folder)


def _packages(made: Path) -> None:
    """The packages under their names in the wheel, and what else the wheel carries in them."""
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    for package in wheel["packages"]:
        shutil.copytree(ROOT / package, made / wheel["sources"].get(package, package), ignore=_LEFT_BEHIND)
    for source, place in wheel["force-include"].items():
        shutil.copyfile(ROOT / source, made / place)


def _texts(made: Path) -> None:
    shutil.copyfile(ROOT / "LICENSE", made / "LICENSE")
    front_matter = (ROOT / "README.md").read_text().split("---\n")[1]
    readme = made / "README.md"
    readme.write_text(f"---\n{front_matter}---\n\n{readme.read_text()}")
    manifest = (ROOT / "openenv.yaml").read_text()
    for place in ("openenv.yaml", "metagame/openenv.yaml"):
        (made / place).write_text(manifest.replace(APP, SPACE_APP))
    project = made / "pyproject.toml"
    text = project.read_text()
    for placeholder, lines in _project():
        text = text.replace(placeholder, lines)
    project.write_text(text)


def _project() -> Iterator[tuple[str, str]]:
    """What the folder's pyproject.toml takes from the project's."""
    version: dict[str, str] = {}
    exec((ROOT / "metagame" / "_version.py").read_text(), version)  # noqa: S102 - hatchling reads it likewise
    extras = PROJECT["project"]["optional-dependencies"]
    [openenv] = extras["openenv"]
    dependencies = [*PROJECT["project"]["dependencies"], *extras["server"], f"{openenv}; extra == 'openenv'"]
    yield '"0.0.0"', json.dumps(version["__version__"])
    yield '"DEPENDENCIES"', ",\n    ".join(json.dumps(one) for one in dependencies)
    yield '"OPENENV"', json.dumps(openenv)


def _pins(made: Path, uv: str) -> None:
    """uv.lock for tools, and the image's part of it as requirements.txt; both name the public index only."""
    _uv(uv, made, "lock", "--default-index", "https://pypi.org/simple")
    _uv(uv, made, "export", "--frozen", "--no-emit-project", "--no-header", "--output-file", "requirements.txt")


def _uv(uv: str, made: Path, *arguments: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            [uv, *arguments, "--quiet", "--no-config", "--project", "."],
            cwd=made,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        message = f"{uv} is not there, and it makes the pins: `make space` installs it, or pip install uv."
        raise StageError(message) from None
    if done.returncode:
        message = f"uv {arguments[0]} failed: {done.stderr.strip()}"
        raise StageError(message)


def _is_ours(folder: Path) -> bool:
    """Whether an earlier run made it, or nothing is in it."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {"a file"}
    return not names or {"metagame_server", "validation", "openenv.yaml"} <= names


if __name__ == "__main__":
    sys.exit(main())
