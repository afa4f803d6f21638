"""The dev overlay's pods for real: each as a container, as locked down and with the files and variables it says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from metagame import MetaGameAction, MetaGameEnv
from tests.containers.conftest import docker_engine, image
from tests.containers.engine import Container, container, docker, network, wait_until
from tests.deploy.rendered import OVERLAYS, Manifest, Overlay

__all__ = ["docker_engine", "image"]
DEV = OVERLAYS[0]


@dataclass(frozen=True, slots=True)
class Pool:
    """One Redis, two workers, a balancer."""

    overlay: Overlay
    redis: Container
    workers: list[Container]
    balancer: Container

    def all(self) -> Iterator[tuple[str, Container]]:
        yield "redis", self.redis
        yield "balancer", self.balancer
        for one in self.workers:
            yield "worker", one


@contextmanager
def pod(overlay: Overlay, name: str, joined: str, folder: Path, *published: str) -> Iterator[Container]:
    """A workload's pod as a container of this network, found by the names of its Service."""
    spec, told = overlay.pod(name), overlay.container(name)
    namespace = overlay.of("Namespace")[0]["metadata"]["name"]
    user = spec["securityContext"]
    options = ["--network", joined, "--user", f"{user['runAsUser']}:{user['runAsGroup']}", "--read-only"]
    options += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    options += ["--memory", told["resources"]["limits"]["memory"].removesuffix("i").lower()]
    for alias in (name, f"{name}.{namespace}.svc.cluster.local"):
        options += ["--network-alias", alias]
    given = overlay.environment(name)
    given.pop("METAGAME_API_KEYS", None)  # of a Secret that may be missing, and here is
    for variable, value in given.items():
        woven = namespace if value is None else value.replace("$(POD_NAMESPACE)", namespace)
        options += ["--env", f"{variable}={woven}"]
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for mount in told["volumeMounts"]:
        source = volumes.get(mount["name"], {})
        if names := _config_maps(source):
            files = folder / name
            files.mkdir(exist_ok=True)
            for config_map in names:
                for file, text in overlay.named("ConfigMap", config_map)["data"].items():
                    (files / file).write_text(text)
            options += ["--volume", f"{files}:{mount['mountPath']}:ro"]
        else:  # empty, and the user's own: an emptyDir, or a claim by its fsGroup
            options += ["--tmpfs", f"{mount['mountPath']}:uid={user['runAsUser']}"]
    for port in published:
        options += ["--publish", f"127.0.0.1::{port}"]
    entry, *arguments = told.get("command", [None])
    options += [] if entry is None else ["--entrypoint", entry]
    with container(*options, image=told["image"], command=tuple(arguments)) as running:
        yield running


@pytest.fixture(scope="module")
def pool(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    overlay, folder = Overlay(DEV), tmp_path_factory.mktemp("pods")
    assert overlay.container("worker")["image"] == image
    with network() as joined, ExitStack() as stack:
        redis = stack.enter_context(pod(overlay, "redis", joined, folder))
        workers = [stack.enter_context(pod(overlay, "worker", joined, folder)) for _ in range(2)]
        balancer = stack.enter_context(pod(overlay, "balancer", joined, folder, "8000", "8404"))
        balancer.wait_ready()
        yield Pool(overlay, redis, workers, balancer)


def test_the_pods_serve_together(pool: Pool) -> None:
    with MetaGameEnv(pool.balancer.url) as env:
        env.reset()
        assert [env.step(MetaGameAction(message="abc")).metadata["step"] for _ in range(3)] == [1, 2, 3]
    wait_until(lambda: _in_rotation(pool.balancer) == len(pool.workers), "both workers found by DNS")


def test_what_the_kubelet_runs_in_them_is_there(pool: Pool) -> None:
    for name, running in pool.all():
        told = pool.overlay.container(name)
        for probe in ("startupProbe", "readinessProbe"):
            if command := told[probe].get("exec", {}).get("command"):
                docker("exec", running.name, *command)
        if hook := told.get("lifecycle", {}).get("preStop"):
            docker("exec", running.name, hook["exec"]["command"][0], "0")


def test_redis_refuses_whoever_has_no_password(pool: Pool) -> None:
    answer = docker("exec", "--env", "REDISCLI_AUTH=", pool.redis.name, "redis-cli", "ping", both=True)
    assert "NOAUTH" in answer


def test_a_drained_worker_leaves_within_its_grace_period(pool: Pool) -> None:
    grace_s = pool.overlay.pod("worker")["terminationGracePeriodSeconds"]
    leaving = pool.workers[0]
    with MetaGameEnv(pool.balancer.url) as env:
        env.reset()
        docker("stop", "--time", str(grace_s), leaving.name)
        assert leaving.state["ExitCode"] == 0, "137 would be the kill at the end of that time"
        assert env.step(MetaGameAction(message="abc")).metadata["step"] == 1
    docker("start", leaving.name)


def _config_maps(volume: Manifest) -> list[str]:
    sources = volume.get("projected", {}).get("sources", [volume])
    return [one["configMap"]["name"] for one in sources if "configMap" in one]


def _in_rotation(balancer: Container) -> int:
    where = docker("port", balancer.name, "8404").splitlines()[0]
    rows = httpx.get(f"http://{where}/;csv", trust_env=False).text.splitlines()
    return sum(row.startswith("workers,worker") and ",UP," in row for row in rows)
