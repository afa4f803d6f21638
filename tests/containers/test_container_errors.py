"""What goes wrong with a container of one's own, and what is said; the docker is real but where a test says not."""

import gc
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from metagame import AsyncMetaGameEnv, ContainerFailed, InvalidRequest, MetaGameEnv
from tests.containers.engine import IMAGE, docker
from tests.containers.scripts import containers_of, wait_gone

OTHER_SERVER = """
FROM python:3.13-slim
CMD ["python3", "-m", "http.server", "8000"]
"""


@pytest.fixture(autouse=True)
def _nothing_stays(image: str) -> Iterator[None]:
    """Fails the test that leaves a container of this process."""
    yield
    gc.collect()
    wait_gone(os.getpid())


def test_an_engine_that_is_down_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(ContainerFailed, match=r"cannot be reached: .*nobody\.sock.*DOCKER_HOST") as failed:
        MetaGameEnv.from_docker_image(IMAGE)
    assert failed.value.fields == {"cause": "engine_unreachable", "image": IMAGE}


def test_a_missing_image_comes_with_the_commands_that_make_or_fetch_it() -> None:
    name = f"nobody/has-{uuid4().hex}:latest"
    with pytest.raises(ContainerFailed) as failed:
        MetaGameEnv.from_docker_image(name)
    assert failed.value.fields == {"cause": "image_missing", "image": name}
    assert f"docker build -t {name} -f deploy/Dockerfile ." in failed.value.message
    assert f"docker pull {name}" in failed.value.message


def test_what_docker_takes_for_no_name_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="docker does not take for a name"):
        MetaGameEnv.from_docker_image("Upper/Case")


def test_a_port_that_is_taken_is_told_from_other_failures() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ContainerFailed, match=r"already in use.*\nChoose another port=") as failed:
            MetaGameEnv.from_docker_image(IMAGE, port=port)
    assert failed.value.fields["cause"] == "port_taken"
    with MetaGameEnv.from_docker_image(IMAGE, port=port) as env:
        assert env.base_url == f"http://127.0.0.1:{port}"
        env.reset()


def test_a_container_that_ends_early_is_told_at_once_with_its_last_words() -> None:
    began = time.monotonic()
    with pytest.raises(ContainerFailed) as failed:
        MetaGameEnv.from_docker_image(IMAGE, env_vars={"METAGAME_MAX_SESSIONS": "many"}, ready_timeout_s=600)
    assert time.monotonic() - began < 60
    fields = failed.value.fields
    assert (fields["cause"], fields["image"], fields["exit_code"]) == ("exited", IMAGE, 2)
    assert "METAGAME_MAX_SESSIONS is 'many', which is not allowed" in fields["log"]
    assert fields["log"] in failed.value.message.replace("\n    ", "\n")


@pytest.mark.anyio
async def test_a_server_that_is_not_ready_in_time_is_told_with_what_it_said() -> None:
    variables = {"METAGAME_REDIS_URL": "redis://127.0.0.1:1/0", "METAGAME_LOG_FORMAT": "json"}
    with pytest.raises(ContainerFailed) as failed:
        await AsyncMetaGameEnv.from_docker_image(IMAGE, env_vars=variables, ready_timeout_s=4)
    assert failed.value.fields["cause"] == "not_ready"
    assert "within 4 s (HTTP status 503" in failed.value.message
    assert "redis_unavailable" in failed.value.message
    assert "serving on http://0.0.0.0:8000" in failed.value.fields["log"]


def test_another_server_is_told_at_once() -> None:
    name = f"metagame-test-{uuid4().hex[:12]}"
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", name, "-"],
        input=OTHER_SERVER,
        capture_output=True,
        text=True,
        check=True,
    )
    try:
        with pytest.raises(ContainerFailed, match="not Metagame's") as failed:
            MetaGameEnv.from_docker_image(name, ready_timeout_s=600)
        wait_gone(os.getpid())
    finally:
        docker("rmi", name)
    assert failed.value.fields["cause"] == "other_server"


def test_a_container_that_somebody_removed_is_closed_without_complaint() -> None:
    env = MetaGameEnv.from_docker_image(IMAGE)
    env.reset()
    docker("rm", "--force", *containers_of(os.getpid()))
    env.close()


def test_a_container_whose_reaper_was_killed_is_removed_by_close() -> None:
    env = MetaGameEnv.from_docker_image(IMAGE)
    env.reset()
    assert env._container is not None
    env._container._reaper._process.kill()
    env.close()
    assert containers_of(os.getpid()) == []


def test_a_container_that_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine refuses no removal by force while it works: the wrapper does, once the container runs."""
    real = shutil.which("docker")
    wrapper = tmp_path / "docker"
    wrapper.write_text(f'#!/bin/sh\n[ "$1" = rm ] && echo "no way" >&2 && exit 1\nexec "{real}" "$@"\n')
    wrapper.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        env = MetaGameEnv.from_docker_image(IMAGE)
    try:
        with pytest.raises(
            ContainerFailed, match=r"no way\nTo remove it by hand: docker rm --force metagame-"
        ) as failed:
            env.close()
    finally:
        docker("rm", "--force", *containers_of(os.getpid()))
    assert failed.value.fields["cause"] == "not_removed"
    env.close()
