"""The checks of a release, each a function of the tree: it returns what it saw, or raises what is wrong.

They look at the tree from outside, by the commands that a release is made with. What they make lies in
build/release, and the wheel and sdist that were tried stay there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

_SHOWN = 1500
LOCKS = ("deploy/requirements.txt", "deploy/requirements-build.txt")
MADE = Path("build", "release")
_OUTER_MAKE = frozenset({"MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL", "ARGS"})


class CheckFailed(Exception):
    """The tree must not be released as it is; the text says why and what to do."""


class NotCheckable(Exception):
    """The machine lacks what the check needs; the text says what."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The tree to be released, and the uv that makes its packages."""

    root: Path
    uv: str = "uv"

    @property
    def version(self) -> str:
        """What `metagame/_version.py` says."""
        text = (self.root / "metagame" / "_version.py").read_text()
        found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
        if found is None:
            message = 'metagame/_version.py has no line `__version__ = "..."`.'
            raise CheckFailed(message)
        return found[1]

    def run(self, *command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
        """What the command prints; raises CheckFailed, with the end of what it printed, where it fails."""
        done = subprocess.run(  # noqa: S603 - our own commands
            command,
            cwd=cwd or self.root,
            env=dict(env) if env is not None else None,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            shown = " ".join([Path(command[0]).name, *command[1:]])
            message = f"`{shown}` failed:\n{(done.stdout + done.stderr).strip()[-_SHOWN:]}"
            raise CheckFailed(message)
        return done.stdout

    def make(self, *arguments: str) -> str:
        """What `make` says, asked as from a terminal: what an outer make was told is not for it."""
        env = {name: value for name, value in os.environ.items() if name not in _OUTER_MAKE}
        return self.run("make", "--silent", *arguments, env=env)


def version(tree: Tree) -> str:
    """Package, changelog and manifest name one version, and the changelog says when."""
    ours = tree.version
    manifest = str(yaml.safe_load((tree.root / "openenv.yaml").read_text())["version"])
    if manifest != ours:
        message = (
            f"openenv.yaml says {manifest} and metagame/_version.py {ours}: set both to the version of the release."
        )
        raise CheckFailed(message)
    headings = re.findall(r"^## (.+)$", (tree.root / "CHANGELOG.md").read_text(), re.MULTILINE)
    newest = headings[0] if headings else "nothing"
    if re.fullmatch(rf"\[{re.escape(ours)}\] - \d{{4}}-\d\d-\d\d", newest) is None:
        message = f"CHANGELOG.md begins with {newest!r}: make it '[{ours}] - <date>', or change the version."
        raise CheckFailed(message)
    return f"{ours} everywhere"


def clean(tree: Tree) -> str:
    """Nothing is changed or untracked."""
    changed = [line[3:] for line in tree.run("git", "status", "--porcelain").splitlines()]
    if changed:
        message = f"{len(changed)} files are changed or untracked: commit or remove them. {', '.join(changed[:5])}"
        raise CheckFailed(message)
    return tree.run("git", "rev-parse", "--short", "HEAD").strip()


def lock(tree: Tree) -> str:
    """`make lock` would change no pin; the tree is left as it was."""
    files = [tree.root / name for name in LOCKS]
    before = [file.read_bytes() for file in files]
    try:
        tree.make("lock")
        changed = [name for name, file, old in zip(LOCKS, files, before, strict=True) if file.read_bytes() != old]
    finally:
        for file, old in zip(files, before, strict=True):
            file.write_bytes(old)
    if changed:
        message = f"`make lock` makes other pins in {' and '.join(changed)}: run it, test the image, and commit them."
        raise CheckFailed(message)
    return "pins are current"


def docs(tree: Tree) -> str:
    """The documentation builds without a complaint."""
    with tempfile.TemporaryDirectory(prefix="metagame-docs-") as folder:
        tree.run(sys.executable, "-m", "docsite", "build", "--site-dir", folder)
        pages = len(list(Path(folder).rglob("index.html")))
    return f"{pages} pages"


def packages(tree: Tree) -> str:
    """Wheel and sdist build, the wheel out of the sdist; they stay in build/release."""
    made = tree.root / MADE
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    _needs(tree.uv, "`make release-check` installs it")
    tree.run(tree.uv, "build", "--quiet", "--no-config", "--python", sys.executable, "--out-dir", str(made))
    names = sorted(path.name for path in made.iterdir() if path.suffix in {".whl", ".gz"})
    stem = f"openenv_metagame-{tree.version}"
    if names != [f"{stem}-py3-none-any.whl", f"{stem}.tar.gz"]:
        message = f"{MADE} should hold wheel and sdist of {tree.version}, and holds {', '.join(names) or 'nothing'}."
        raise CheckFailed(message)
    return f"{', '.join(names)} in {MADE}"


def install(tree: Tree) -> str:
    """The wheel works in an environment that has nothing else."""
    wheels = sorted((tree.root / MADE).glob("*.whl"))
    if not wheels:
        message = f"no wheel in {MADE}: run the check `packages` first."
        raise CheckFailed(message)
    outside = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    with tempfile.TemporaryDirectory(prefix="metagame-install-") as name:
        folder = Path(name)
        tree.run(sys.executable, "-m", "venv", "venv", cwd=folder, env=outside)
        python, metagame = folder / "venv/bin/python", folder / "venv/bin/metagame"
        install = (
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            f"{wheels[0]}[server]",
        )
        tree.run(*install, cwd=folder, env=outside)
        said = tree.run(str(metagame), "--version", cwd=folder, env=outside).strip()
        if said != f"metagame {tree.version}":
            message = f"the installed command says {said!r}, not 'metagame {tree.version}': build the packages again."
            raise CheckFailed(message)
        demo = ("demo", "--episodes", "8", "--steps", "5", "--json")
        shown = json.loads(tree.run(str(metagame), *demo, cwd=folder, env=outside))
    if not shown["passed"]:
        message = f"`metagame demo` out of the wheel did not pass: {shown}"
        raise CheckFailed(message)
    return f"{said}; demo: {shown['episodes']} episodes, {shown['steps']} steps, all as they should be"


def image(tree: Tree) -> str:
    """The image builds and is of this version."""
    _needs("docker", "build the image where Docker is: make image")
    try:
        tree.run("docker", "version")
    except CheckFailed:
        message = "no Docker engine answers: build the image where one does: make image"
        raise NotCheckable(message) from None
    tree.make("image", "ARGS=--quiet")
    said = tree.run("docker", "run", "--rm", "meta_game-env:latest", "metagame", "--version").strip()
    if said != f"metagame {tree.version}":
        message = f"the image says {said!r}, not 'metagame {tree.version}'."
        raise CheckFailed(message)
    return f"meta_game-env:latest, {said}"


CHECKS: dict[str, Callable[[Tree], str]] = {
    "version": version,
    "tree": clean,
    "lock": lock,
    "docs": docs,
    "packages": packages,
    "install": install,
    "image": image,
}


def _needs(command: str, else_: str) -> None:
    if shutil.which(command) is None:
        message = f"{command} is not there: {else_}"
        raise NotCheckable(message)
