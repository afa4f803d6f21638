"""`make up`: how many workers, which image, and what keeps a pool from starting is named at once."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.containers import engine
from tests.containers.compose import ComposePool, compose_pool
from tests.servers import ROOT

pytestmark = pytest.mark.timeout(300)
BALANCER_SETTINGS = re.findall(r"^#   (BALANCER_\w+)", (ROOT / "deploy/haproxy/haproxy.cfg").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def pool(image: str) -> Iterator[ComposePool]:
    with compose_pool() as one:
        one.run("make", "up")
        yield one


@pytest.fixture
def variables(tmp_path: Path) -> Path:
    """A file that takes the place of `.env`."""
    return tmp_path / "variables"


def test_a_running_pool_keeps_its_number_of_workers_unless_one_is_given(pool: ComposePool, variables: Path) -> None:
    pool.scale(3)
    assert "workers  3   " in pool.run("make", "up", METAGAME_MAX_SESSIONS="777")
    assert "workers  1, of 3 before   " in pool.run("make", "up", "WORKERS=1")
    variables.write_text("WORKERS=2\n")
    assert "workers  2, of 1 before   " in pool.run("make", "up", COMPOSE_ENV_FILES=str(variables))
    assert len(pool.containers("worker")) == 2


@pytest.mark.parametrize("in_a_file", [False, True])
def test_a_missing_image_is_named_and_not_built(pool: ComposePool, variables: Path, in_a_file: bool) -> None:
    before = pool.containers("worker")
    missing = f"nobody/has-{uuid4().hex}:1"
    variables.write_text(f"IMAGE={missing}\n")
    given = {"COMPOSE_ENV_FILES": str(variables)} if in_a_file else {"IMAGE": missing}
    said = pool.run("make", "up", code=2, **given)
    assert f"IMAGE is {missing}, which is not here and could not be pulled" in said
    assert engine.docker("images", "--quiet", missing) == ""
    assert pool.containers("worker") == before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"REDIS_PASSWORD": "a b"}, "REDIS_PASSWORD may hold letters, digits"),
        ({"REDIS_MAXMEMORY": "4 gb"}, "REDIS_MAXMEMORY is '4 gb', which is no size"),
        ({"BALANCER_BUFFER_BYTES": "large"}, "tune.bufsize"),
        ({"METAGAME_SESSION_TTL_S": "never"}, "METAGAME_SESSION_TTL_S is 'never'"),
    ],
)
def test_what_ends_at_once_is_shown_with_its_reason(image: str, settings: dict[str, str], said: str) -> None:
    with compose_pool(**settings) as broken:
        wrote = broken.run("make", "up", code=2)
        # Said half a minute before the balancer is unhealthy, which would be the reason given then.
        assert said in wrote.split("The pool is not up: ended: ")[1]
        assert "make down removes what is there" in wrote
        broken.run("make", "down")
        assert broken.compose("ps", "--all", "--quiet") == ""


def test_workers_that_are_never_ready_are_shown_with_their_reason(image: str) -> None:
    with compose_pool(METAGAME_REDIS_URL="redis://nowhere:6379/0") as broken:
        wrote = broken.run("make", "up", code=2)
    assert f"unhealthy: {broken.project}-balancer-1" in wrote
    assert "the session store cannot be reached" in wrote


def test_a_certificate_that_is_not_there_is_named_and_not_made(image: str, tmp_path: Path) -> None:
    missing = tmp_path / "none.pem"
    with compose_pool(TLS_PEM=str(missing)) as broken:
        assert f"does not exist: {missing}" in broken.run("make", "up", code=2)
    assert not missing.exists()


def test_a_port_that_is_taken_is_named(image: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with compose_pool(PORT=str(port)) as broken:
            wrote = broken.run("make", "up", code=2)
    assert re.search(rf"{port}.*(in use|allocated)", wrote)
    assert "The pool is not up: see docker's error above" in wrote


def test_empty_variables_of_a_copied_file_are_the_defaults(image: str) -> None:
    names = [*BALANCER_SETTINGS, "BIND", "WORKERS", "IMAGE", "TLS_PEM", "NOFILE", "REDIS_MAXMEMORY", "REDIS_PASSWORD"]
    assert "BALANCER_CLIENT_CONNECTIONS" in names
    with compose_pool(**dict.fromkeys(names, "")) as empty:
        empty.url = empty.url.replace("https", "http")
        assert "workers  2   " in empty.run("make", "up")
        assert httpx.post(f"{empty.url}/reset", trust_env=False).status_code == 200
