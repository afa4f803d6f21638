"""What README and runbook tell people to type about containers runs as it stands there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.containers.compose import ComposePool, compose_pool
from tests.containers.engine import ROOT, wait_until
from tests.containers.scripts import script

README = (ROOT / "README.md").read_text()
RUNBOOK = (ROOT / "deploy" / "README.md").read_text()
ON_A_CONTAINER = [
    code
    for code in re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    if "from_docker_image" in code
]
END_S = 60
STEP = {"action": {"message": "hello"}}


@pytest.mark.parametrize("code", ON_A_CONTAINER, ids=range(len(ON_A_CONTAINER)))
def test_the_readmes_scripts_on_a_container_run(code: str, image: str, tmp_path: Path) -> None:
    with script(code, tmp_path) as process:
        said, wrong = process.communicate(timeout=END_S)
    assert (process.returncode, wrong) == (0, "")
    assert said.splitlines() == re.findall(r"print\(.*#\s*([\d.]+)$", code, re.MULTILINE) != []


@pytest.fixture
def pool(image: str) -> Iterator[ComposePool]:
    with compose_pool() as one:
        one.run("make", "up")
        yield one


def test_a_backup_is_taken_while_redis_runs_and_brings_the_sessions_back(pool: ComposePool, tmp_path: Path) -> None:
    take, put_back = (commands.replace("sessions.tar", str(tmp_path / "sessions.tar")) for commands in _backup())
    session = f"{pool.url}/sessions/kept"
    assert httpx.post(f"{session}/reset", json={"episode_id": "one"}).status_code == 200
    for _ in range(3):
        httpx.post(f"{session}/step", json=STEP).raise_for_status()
    pool.run("bash", "-euo", "pipefail", "-c", take)
    httpx.post(f"{session}/step", json=STEP).raise_for_status()
    pool.run("bash", "-euo", "pipefail", "-c", put_back)
    assert answer("GET", f"{session}/state").json() == {"episode_id": "one", "step_count": 3}
    late = answer("POST", f"{session}/step", json=STEP | {"expect": {"episode_id": "one", "step_count": 4}})
    assert (late.status_code, late.json()["reason"]) == (409, "session_moved")


def answer(method: str, url: str, **body: Any) -> httpx.Response:
    """A worker's answer: the balancer may take a while to believe that they are ready again."""
    answers: list[httpx.Response] = []

    def answered() -> bool:
        answers.append(httpx.request(method, url, **body))
        return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

    wait_until(answered, f"an answer to {method} {url}")
    return answers[-1]


def _backup() -> list[str]:
    """The runbook's commands that take a backup, and those that restore it."""
    section = RUNBOOK.split("## Back up and restore\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    return blocks
