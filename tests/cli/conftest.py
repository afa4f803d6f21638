"""Servers that several commands are tried on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from metagame.cli import processes
from tests.servers import ROOT
from tests.survival.stock import interpreter


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Child]:
    """OpenEnv's own server."""
    port = processes.free_port()
    python = interpreter("METAGAME_TEST_OPENENV_PYTHON", ".venvs/openenv-0.10")
    command = [python, "-m", "uvicorn", "reference:app", "--app-dir", str(ROOT / "bench"), "--port", str(port)]
    log = tmp_path_factory.mktemp("reference") / "log"
    with processes.child([*command, "--log-level", "warning"], port, log, dict(os.environ)) as started:
        yield started
