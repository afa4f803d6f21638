"""Without an engine these tests are skipped and say so, or fail where containers are required."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.containers.engine import ROOT

A_TEST = "tests/containers/test_image.py::test_its_own_layers_are_small"


@pytest.mark.parametrize(
    ("required", "code", "said"),
    [("", 0, "1 skipped"), ("require", 1, "METAGAME_TEST_CONTAINERS=require, but docker")],
)
@pytest.mark.parametrize("installed", [True, False])
def test_the_container_tests_name_docker(tmp_path: Path, required: str, code: int, said: str, installed: bool) -> None:
    if installed:
        (tmp_path / "docker").write_text("#!/bin/sh\necho nobody answers >&2\nexit 1\n")
        (tmp_path / "docker").chmod(0o755)
    environment = os.environ | {"METAGAME_TEST_CONTAINERS": required, "PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", A_TEST],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert said in done.stdout
    assert ("docker reaches no engine: nobody answers" if installed else "docker is not installed") in done.stdout
