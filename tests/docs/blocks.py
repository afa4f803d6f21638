"""The blocks of code in the README, the runbook and the documentation, and how each is run.

A page is followed as a reader would: its blocks in their order, in one folder. A block with a title is a file of
that name there. A json block right below another is what that one prints; "…" in it stands for anything.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.redis_servers import free_port
from tests.servers import ROOT
from tests.survival.stock import interpreter

UP_S = 30.0
_FENCE = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1``` *$", re.MULTILINE | re.DOTALL)
_SAID = re.compile(r"print\(.*#\s*([\d.{}]+|Meta Game.*)$", re.MULTILINE)
_SERVES = re.compile(r"^(uvicorn|metagame serve)\b")
_HERE, _OTHER_PORT = "localhost:8000", "9000"
ANYTHING = "…"


@dataclass(frozen=True, slots=True)
class Block:
    """One block; `shows` is the json that the page says it prints, None where it says nothing."""

    page: str
    line: int
    language: str
    title: str | None
    code: str
    shows: str | None = None

    @property
    def first(self) -> str:
        """Its first line without the comment behind it, by which lists name it."""
        return self.code.partition("\n")[0].partition("  #")[0].rstrip()

    @property
    def serves(self) -> bool:
        """Whether it is a command that runs until it is stopped."""
        return self.language == "sh" and _SERVES.match(self.code) is not None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.first}"


def pages() -> list[str]:
    """Every page that has blocks."""
    documents = [ROOT / "README.md", ROOT / "deploy" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [str(path.relative_to(ROOT)) for path in documents if "```" in path.read_text()]


def blocks(page: str) -> list[Block]:
    """The page's blocks, in order."""
    text = (ROOT / page).read_text()
    found = list(_FENCE.finditer(text))
    shown = []
    for number, fence in enumerate(found):
        behind = found[number + 1] if number + 1 < len(found) else None
        output = behind is not None and behind[2] == "json" and not text[fence.end() : behind.start()].strip()
        shown.append(
            Block(
                page,
                text.count("\n", 0, fence.start()) + 1,
                fence[2],
                named[1] if (named := re.search(r'title="([^"]+)"', fence[3])) else None,
                textwrap.dedent(fence[4]),
                behind[4] if behind is not None and output and fence[2] in {"sh", "python"} else None,
            )
        )
    return shown


class Reader:
    """Follows one page in a folder of its own, with a server at `url`."""

    def __init__(self, folder: Path, url: str, page: list[Block]) -> None:
        self._folder = folder
        self._started = ExitStack()
        self._port = str(free_port())
        own = next((block for block in page if block.serves), None)
        self._swapped = {_HERE: url.removeprefix("http://")}
        if own is not None and _OTHER_PORT in own.code:
            self._swapped[_OTHER_PORT] = self._port
        elif own is not None:
            self._swapped[_HERE] = f"127.0.0.1:{self._port}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("METAGAME_")}
        self._environment = inherited | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "NO_PROXY": "localhost,127.0.0.1",
            "no_proxy": "localhost,127.0.0.1",
            "METAGAME_URL": f"http://{self._swapped[_HERE]}",
        }
        for block in page:
            if block.title is not None:
                (folder / block.title).write_text(self._as_here(block.code))

    def follow(self, block: Block) -> str:
        """Do what the block says; what it printed. AssertionError where it fails, or prints not what the page says."""
        if block.serves:
            self._started.enter_context(self._serving(block))
            return ""
        code = self._as_here(block.code)
        if block.language == "python":
            stock = "openenv" in block.code.lower()
            python = interpreter("METAGAME_TEST_OPENENV_PYTHON", ".venvs/openenv-0.10") if stock else sys.executable
            command = [python, "-c", code]
        else:
            command = ["bash", "-euo", "pipefail", "-c", code]
        done = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        if block.shows is not None:
            printed, shown = documents(done.stdout), documents(block.shows)
            assert matches(shown, printed), f"{block}\nprints {done.stdout}"
        else:
            assert '"code":' not in done.stdout, f"{block}\nprints an error: {done.stdout}"
        for said in _SAID.findall(code):
            assert said in done.stdout.splitlines(), f"{block}\nprints {done.stdout}"
        return done.stdout

    def close(self) -> None:
        """Stop what the page started."""
        self._started.close()

    def _as_here(self, code: str) -> str:
        for there, here in self._swapped.items():
            code = code.replace(there, here)
        return code

    @contextmanager
    def _serving(self, block: Block) -> Iterator[None]:
        command = ["bash", "-c", f"exec {self._as_here(block.code)}"]
        environment = self._environment | {"METAGAME_PORT": self._port}
        with (self._folder / "server.log").open("w") as log:
            server = subprocess.Popen(command, cwd=self._folder, env=environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + UP_S
            with httpx.Client(trust_env=False) as client:
                while not _is_up(client, f"http://127.0.0.1:{self._port}/ready"):
                    alive = server.poll() is None and time.monotonic() < deadline
                    assert alive, f"{block}\n{(self._folder / 'server.log').read_text()}"
                    time.sleep(0.05)
            yield
        finally:
            server.terminate()
            server.wait(30)


def documents(text: str) -> list[Any]:
    """The JSON documents in a text, one behind the other."""
    found, decoder = [], json.JSONDecoder()
    rest = text.strip()
    while rest:
        document, end = decoder.raw_decode(rest)
        found.append(document)
        rest = rest[end:].lstrip()
    return found


def matches(shown: Any, printed: Any) -> bool:
    """Whether it is what the page shows, where that stands for anything too."""
    if shown == ANYTHING:
        return True
    if isinstance(shown, dict) and isinstance(printed, dict):
        return shown.keys() == printed.keys() and all(matches(shown[key], printed[key]) for key in shown)
    if isinstance(shown, list) and isinstance(printed, list):
        return len(shown) == len(printed) and all(map(matches, shown, printed))
    return bool(shown == printed)


def _is_up(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code == 200
    except httpx.TransportError:
        return False
