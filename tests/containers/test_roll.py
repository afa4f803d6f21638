"""`deploy/roll` on a pool that is not as it should be, and its interruptions: what it then does, leaves and says."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed

from tests.containers import engine
from tests.containers.compose import ComposePool, compose_pool
from tests.wire.sockets import ask, open_socket

pytestmark = pytest.mark.timeout(300)
WORKERS = 2
NEVER_READY = {"METAGAME_REDIS_URL": "redis://nowhere:6379/0"}
RESTARTS = 6
"""After so many the engine waits for seconds before the next."""


@pytest.fixture(scope="module")
def started(image: str) -> Iterator[ComposePool]:
    with compose_pool() as pool:
        pool.run("make", "up")
        yield pool


@pytest.fixture
def pool(started: ComposePool) -> ComposePool:
    """Two workers in rotation, whatever the test before has left."""
    started.scale(WORKERS)
    return started


@contextmanager
def built(*instructions: str) -> Iterator[str]:
    """An image of these lines of a Dockerfile, removed with the block."""
    name = f"metagame-test-{uuid4().hex[:12]}"
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", name, "-"],
        input="\n".join(instructions),
        capture_output=True,
        text=True,
        check=True,
    )
    try:
        yield name
    finally:
        engine.docker("rmi", "--force", name, check=False)


def all_workers(pool: ComposePool) -> set[str]:
    """Also those that do not run."""
    return set(pool.compose("ps", "--all", "--quiet", "worker").split())


def environment(container: str) -> list[str]:
    variables: list[str] = engine.inspect(container)["Config"]["Env"]
    return variables


def unnamed_volumes(container: str) -> set[str]:
    return {mount["Name"] for mount in engine.inspect(container)["Mounts"] if mount["Type"] == "volume"}


@pytest.mark.parametrize("ended_by", ["stop", "kill"])
def test_a_stopped_worker_is_not_taken_for_a_new_one(pool: ComposePool, ended_by: str) -> None:
    before = all_workers(pool)
    stopped = pool.containers("worker")[0]
    name = engine.inspect(stopped)["Name"].removeprefix("/")
    engine.docker(ended_by, stopped)
    said = pool.run("deploy/roll", METAGAME_MAX_SESSIONS="777")
    assert f"{name} had stopped: it is removed" in said
    assert "1 of 1 workers replaced" in said
    assert "--scale worker=2" in said
    [worker] = all_workers(pool)
    assert worker not in before
    assert "METAGAME_MAX_SESSIONS=777" in environment(worker)


def test_a_worker_that_ends_during_the_roll_comes_back_as_a_new_one(pool: ComposePool) -> None:
    """The second dies while the first is replaced; compose starts it again, and it is replaced in its turn."""
    before = all_workers(pool)
    kill_when_three = (
        "deploy/roll & until [ $(docker compose ps -q worker | wc -l) = 3 ]; do sleep 0.05; done\n"
        f"docker kill {pool.containers('worker')[-1]}; wait $!"
    )
    pool.run("bash", "-c", kill_when_three, METAGAME_MAX_SESSIONS="778")
    after = all_workers(pool)
    assert len(after) == WORKERS
    assert not before & after
    assert all("METAGAME_MAX_SESSIONS=778" in environment(worker) for worker in after)


def test_a_paused_worker_is_named_and_nothing_is_touched(pool: ComposePool) -> None:
    before = all_workers(pool)
    paused = pool.containers("worker")[0]
    name = engine.inspect(paused)["Name"].removeprefix("/")
    engine.docker("pause", paused)
    try:
        said = pool.run("deploy/roll", code=1)
        assert f"{name} is paused. Let it go on: docker unpause {name}" in said
        assert all_workers(pool) == before
    finally:
        engine.docker("unpause", paused)


def test_a_worker_that_ends_again_and_again_is_named_and_nothing_is_touched(pool: ComposePool) -> None:
    pool.run(
        *("docker", "compose", "up", "--detach", "--no-deps", "--no-recreate", "--scale", "worker=3", "worker"),
        METAGAME_SESSION_TTL_S="never",
    )
    [broken] = [each for each in all_workers(pool) if "METAGAME_SESSION_TTL_S=never" in environment(each)]
    try:
        engine.wait_until(lambda: engine.inspect(broken)["RestartCount"] >= RESTARTS, "several restarts")
        engine.wait_until(lambda: engine.inspect(broken)["State"]["Restarting"], "it between two")
        before = all_workers(pool)
        said = pool.run("deploy/roll", code=1)
        name = engine.inspect(broken)["Name"].removeprefix("/")
        assert f"{name} ends again and again. See: docker logs {name}" in said
        assert all_workers(pool) == before
    finally:
        engine.docker("rm", "--force", broken)


@pytest.mark.parametrize("command", [("deploy/roll",), ("make", "roll")])
@pytest.mark.parametrize("in_a_file", [False, True])
def test_a_missing_image_is_not_built_under_its_name(
    pool: ComposePool, tmp_path: Path, command: tuple[str, ...], in_a_file: bool
) -> None:
    before = all_workers(pool)
    missing = f"nobody/has-{uuid4().hex}:1"
    file = tmp_path / "variables"
    file.write_text(f"IMAGE={missing}\n")
    given = {"COMPOSE_ENV_FILES": str(file)} if in_a_file else {"IMAGE": missing}
    said = pool.run(*command, code=2 if command[0] == "make" else 1, **given)
    assert f"No such image: {missing}" in said
    assert "2 workers are running, 0 of 2 replaced" in said
    assert engine.docker("images", "--quiet", missing) == ""
    assert all_workers(pool) == before


def test_an_image_that_is_none_of_ours_is_told_in_one_line(pool: ComposePool) -> None:
    before = all_workers(pool)
    said = pool.run("deploy/roll", code=1, IMAGE="redis:8")
    assert "there is no python in the new worker's image" in said
    assert "OCI runtime" not in said
    assert all_workers(pool) == before


def test_volumes_without_a_name_go_with_their_workers(pool: ComposePool) -> None:
    with built(f"FROM {engine.IMAGE}", "VOLUME /scratch") as image:
        pool.run("deploy/roll", IMAGE=image)
        volumes = set().union(*map(unnamed_volumes, pool.containers("worker")))
        assert len(volumes) == WORKERS
        before = set(engine.docker("volume", "ls", "--quiet").split())
        pool.run("deploy/roll", code=1, IMAGE=image, ROLL_TIMEOUT_S="1", **NEVER_READY)
        pool.run("deploy/roll")
        left = set(engine.docker("volume", "ls", "--quiet").split())
        assert not volumes & left
        assert all(pool.project not in engine.docker("volume", "inspect", name) for name in left - before)


def test_interrupted_while_the_new_worker_starts_it_leaves_the_old_ones(pool: ComposePool) -> None:
    before = all_workers(pool)
    interrupt_when_three = (
        "deploy/roll & until [ $(docker compose ps -q worker | wc -l) = 3 ]; do sleep 0.05; done; kill $!; wait $!"
    )
    said = pool.run("bash", "-c", interrupt_when_three, code=1, **NEVER_READY)
    assert "2 workers are running, 0 of 2 replaced. Go on with the same command." in said
    assert all_workers(pool) == before


def test_interrupted_while_an_old_worker_leaves_it_lets_it_finish(pool: ComposePool) -> None:
    pool.scale(1)
    [old] = all_workers(pool)
    interrupt_when_leaving = (
        f"deploy/roll & until docker logs {old} 2>&1 | grep -q 'worker draining'; do sleep 0.05; done; kill $!; wait $!"
    )
    with suppress(ConnectionClosed), open_socket(pool.url.replace("http", "ws")) as socket:
        ask(socket, {"type": "reset"})
        said = pool.run("bash", "-c", interrupt_when_leaving, code=1)
    assert "1 workers are running, 1 of 1 replaced." in said
    [new] = all_workers(pool)
    assert new != old
