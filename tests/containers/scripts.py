"""Scripts that start a container of their own, run as processes, and what the engine knows of their containers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from metagame.client.docker import PID_LABEL
from tests.containers.engine import ROOT, docker, wait_until


def containers_of(pid: int) -> list[str]:
    """The containers, running or not, that a process started by from_docker_image."""
    return docker("ps", "--all", "--quiet", "--filter", f"label={PID_LABEL}={pid}").split()


def wait_gone(pid: int) -> None:
    """Return once the engine has none of that process's containers."""
    wait_until(lambda: containers_of(pid) == [], f"the containers of process {pid} removed")


@contextmanager
def script(code: str, folder: Path, environment: Mapping[str, str] | None = None) -> Iterator["subprocess.Popen[str]"]:
    """A script in a folder of its own and a session of its own, killed with the block; warnings are errors."""
    written = folder / "script.py"
    written.write_text(code)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(written)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        wait_gone(process.pid)


class SlowDocker:
    """The real `docker` behind a wrapper on the PATH that holds `docker run` up until it is told to go on."""

    def __init__(self, folder: Path) -> None:
        real = shutil.which("docker")
        assert real is not None
        self._folder = folder
        wrapper = folder / "docker"
        wrapper.write_text(
            f"""#!/bin/sh
if [ "$1" = run ]; then
    : > "{folder}/running"
    until [ -e "{folder}/go-on" ]; do sleep 0.05; done
fi
"{real}" "$@"
code=$?
: > "{folder}/done-$1"
exit $code
"""
        )
        wrapper.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        """Where the wrapper comes first."""
        return {"PATH": f"{self._folder}{os.pathsep}{os.environ['PATH']}"}

    def wait_running(self) -> None:
        """Return once `docker run` was asked for."""
        wait_until((self._folder / "running").exists, "docker run asked for")

    def go_on(self) -> None:
        """Let `docker run` happen."""
        (self._folder / "go-on").touch()

    def wait_done(self, command: str) -> None:
        """Return once a docker command has ended."""
        wait_until((self._folder / f"done-{command}").exists, f"docker {command} done")
