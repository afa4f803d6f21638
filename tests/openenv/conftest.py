"""OpenEnv 0.10 from PyPI, unmodified, older validators, and the Space's folder that they are shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT
from tests.survival.stock import interpreter, made

DRIVER = Path(__file__).with_name("driver.py")
Driver = Callable[..., Any]


@pytest.fixture(scope="session")
def openenv() -> Path:
    """The interpreter that has OpenEnv 0.10; its command is beside it."""
    return Path(interpreter("METAGAME_TEST_OPENENV_PYTHON", ".venvs/openenv-0.10"))


@pytest.fixture(scope="session")
def validators() -> Path:
    """A folder for each older release of OpenEnv, named for it."""
    named = os.environ.get("METAGAME_TEST_VALIDATORS")
    return Path(named) if named else made(".venvs/validators")


@pytest.fixture(scope="session")
def uv() -> str:
    return os.environ.get("METAGAME_TEST_UV") or str(made(".venvs/lock") / "bin" / "uv")


@pytest.fixture(scope="session")
def staged(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `make space`."""
    folder = tmp_path_factory.mktemp("staged") / "space"
    command = [sys.executable, "-m", "space", str(folder), "--uv", uv]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def drive(openenv: Path) -> Driver:
    """Call one of the driver's functions in OpenEnv's interpreter, with our package in reach; its result."""

    def call(name: str, *arguments: Any, packages: Path = ROOT, **environment: str) -> Any:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("METAGAME_", "HF_"))}
        done = subprocess.run(
            [openenv, str(DRIVER), name, json.dumps(arguments)],
            cwd=packages,
            env=inherited | {"PYTHONPATH": str(packages), "NO_COLOR": "1"} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return call
