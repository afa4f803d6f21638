"""from_docker_image without an engine: arguments that cannot be, and a docker that is missing or hangs."""

import inspect
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from metagame import AsyncMetaGameEnv, ContainerFailed, InvalidRequest, LocalTransport, MetaGameEnv, errors
from metagame.client import docker, reaper
from metagame.client.docker import Cause
from metagame.client.options import ClientKeywords
from tests.containers.engine import wait_until

IMAGE = "meta_game-env:latest"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "provider": ({"provider": object()}, r"takes no provider.*MetaGameEnv\(base_url=...\)"),
    "base_url": ({"base_url": "http://localhost:1"}, "does not take base_url. It takes port, env_vars"),
    "unknown": ({"gpus": 1, "memory": "1g"}, "does not take gpus, memory. It takes port, env_vars"),
    "transport object": ({"transport": LocalTransport()}, "'websocket' or 'http' here"),
    "transport name": ({"transport": "carrier pigeon"}, "transport is 'carrier pigeon'"),
    "session id": ({"session_id": "a b"}, "session"),
    "no image": ({"image": ""}, "image is ''"),
    "an option": ({"image": "--privileged"}, "image is '--privileged'"),
    "no text": ({"image": None}, "image is None"),
    "port": ({"port": 70000}, "port is 70000; it is a number from 1 to 65535"),
    "port text": ({"port": "80"}, "port is '80'"),
    "time-out": ({"ready_timeout_s": 0}, "ready_timeout_s is 0"),
    "variables": ({"env_vars": ["A=1"]}, "env_vars is .*; it is a dict"),
    "name": ({"env_vars": {"A=B": "1"}}, "env_vars names 'A=B'"),
    "comment": ({"env_vars": {"#A": "1"}}, "env_vars names '#A'"),
    "value": ({"env_vars": {"WORKERS": 2}}, "env_vars sets WORKERS to what is not one line of text"),
    "lines": ({"env_vars": {"A": "1\nB=2"}}, "env_vars sets A to what is not one line"),
    "half a character": ({"env_vars": {"A": "\ud800"}}, "env_vars sets A to what is not one line of text"),
    "inner port": ({"env_vars": {"METAGAME_PORT": "9000"}}, "port= chooses the port outside"),
}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker that has every image and otherwise does what `body` in its folder says."""
    wrapper = tmp_path / "docker"
    wrapper.write_text(f'#!/bin/sh\n[ "$1" = image ] && [ ! -e "{tmp_path}/hangs" ] && exit 0\n. "{tmp_path}/body"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.anyio
async def test_what_cannot_be_is_refused_before_anything_starts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    keywords, said = REFUSED[name]
    with pytest.raises(InvalidRequest, match=said):
        MetaGameEnv.from_docker_image(**({"image": IMAGE} | keywords))
    with pytest.raises(InvalidRequest, match=said):
        await AsyncMetaGameEnv.from_docker_image(**({"image": IMAGE} | keywords))


@pytest.mark.anyio
async def test_without_docker_it_says_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ContainerFailed, match="Install Docker, or start a server without it: `metagame serve`") as sync:
        MetaGameEnv.from_docker_image(IMAGE)
    with pytest.raises(ContainerFailed) as asynchronous:
        await AsyncMetaGameEnv.from_docker_image(IMAGE)
    assert sync.value.fields == asynchronous.value.fields == {"cause": "docker_missing", "image": IMAGE}
    assert not sync.value.retryable


def test_an_engine_that_hangs_does_not_hang_the_caller(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "_ASK_TIMEOUT_S", 0.2)
    (fake / "hangs").touch()
    (fake / "body").write_text("exec sleep 600")
    with pytest.raises(ContainerFailed, match=r"no answer to `docker image` in 0\.2 s") as failed:
        MetaGameEnv.from_docker_image(IMAGE)
    assert failed.value.fields["cause"] == Cause.ENGINE_UNREACHABLE


def test_a_run_that_hangs_ends_at_the_time_out_and_is_undone_later(fake: Path) -> None:
    (fake / "body").write_text(
        f'echo "$@" >> "{fake}/asked"; [ "$1" = run ] || exit 0; until [ -e "{fake}/go-on" ]; do sleep 0.05; done'
    )
    began = time.monotonic()
    with pytest.raises(ContainerFailed, match=r"`docker run` did not return within 0\.3 s") as failed:
        MetaGameEnv.from_docker_image(IMAGE, ready_timeout_s=0.3)
    assert time.monotonic() - began < 30
    assert failed.value.fields["cause"] == Cause.NOT_READY
    (fake / "go-on").touch()
    wait_until(lambda: "rm --force --volumes metagame-" in (fake / "asked").read_text(), "docker rm")


def test_a_run_that_fails_says_what_docker_said(fake: Path) -> None:
    (fake / "body").write_text('[ "$1" = run ] && echo "out of disk" >&2 && exit 125; exit 0')
    with pytest.raises(ContainerFailed, match=r"`docker run` failed \(125\): out of disk") as failed:
        MetaGameEnv.from_docker_image(IMAGE)
    assert failed.value.fields["cause"] == Cause.NOT_STARTED


def test_what_docker_said_ends_within_our_sentence(fake: Path) -> None:
    Path(fake, "body").write_text("echo 'docker: The pool is exhausted.' >&2; exit 125\n")
    with pytest.raises(ContainerFailed) as failed:
        MetaGameEnv.from_docker_image(IMAGE)
    assert "The pool is exhausted." in failed.value.message
    assert ".." not in failed.value.message


def test_a_start_whose_shell_is_killed_is_told_and_undone(fake: Path) -> None:
    (fake / "body").write_text(
        f"""
if [ "$1" = run ]; then
    ps -o sid= -p $$ > "{fake}/session.tmp"
    mv "{fake}/session.tmp" "{fake}/session"
    exec sleep 600
fi
echo "$@" >> "{fake}/asked"
"""
    )

    def kill() -> None:
        wait_until((fake / "session").exists, "docker run")
        os.killpg(int((fake / "session").read_text()), signal.SIGKILL)  # the shell leads a session of its own

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ContainerFailed, match="shell that starts it was killed") as failed:
        MetaGameEnv.from_docker_image(IMAGE)
    killer.join()
    assert failed.value.fields["cause"] == Cause.NOT_STARTED
    assert "rm --force --volumes metagame-" in (fake / "asked").read_text()


def test_a_start_whose_shell_dies_while_it_is_told_the_variables_is_told_and_undone(fake: Path) -> None:
    (fake / "body").write_text(f'echo "$@" >> "{fake}/asked"')

    before = set(reaper._pipes._shells)  # what undoes another test's start may still be under way

    def kill() -> None:
        wait_until(lambda: bool(set(reaper._pipes._shells) - before), "the shell")
        for name in set(reaper._pipes._shells) - before:
            reaper._pipes._shells[name].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ContainerFailed, match="shell that starts it was killed") as failed:
        MetaGameEnv.from_docker_image(IMAGE, env_vars={"A": "x" * 8_000_000})  # a shell reads it byte by byte
    killer.join()
    assert failed.value.fields["cause"] == Cause.NOT_STARTED
    assert "run --name" not in (asked := (fake / "asked").read_text())
    assert "rm --force --volumes metagame-" in asked


def test_every_keyword_of_the_constructor_is_taken_but_the_address() -> None:
    assert ClientKeywords.__annotations__.keys() == inspect.signature(MetaGameEnv).parameters.keys() - {"base_url"}
    sync, asynchronous = (
        inspect.signature(kind.from_docker_image).parameters for kind in (MetaGameEnv, AsyncMetaGameEnv)
    )
    assert sync == asynchronous
    assert list(sync) == ["image", "provider", "port", "env_vars", "ready_timeout_s", "client"]


def test_every_cause_is_documented() -> None:
    assert [each for each in Cause if each not in (errors.ContainerFailed.__doc__ or "")] == []
