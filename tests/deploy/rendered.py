"""What `kubectl kustomize` makes of each overlay, and ways to look at it."""

from __future__ import annotations

import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml

from tests.servers import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("dev", "production")

Manifest = dict[str, Any]


class Overlay:
    """The manifests of one overlay, in the order they are rendered."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.manifests: list[Manifest] = list(yaml.safe_load_all(_rendered(name)))

    def of(self, kind: str) -> list[Manifest]:
        """All of a kind."""
        return [one for one in self.manifests if one["kind"] == kind]

    def named(self, kind: str, name: str) -> Manifest:
        """The one of a kind and name; of a generated one the name before its hash."""
        [found] = [one for one in self.of(kind) if name in {one["metadata"]["name"], _unhashed(one)}]
        return found

    def workloads(self) -> list[Manifest]:
        """Whatever has pods."""
        return [*self.of("Deployment"), *self.of("StatefulSet")]

    def pods(self) -> Iterator[tuple[str, Manifest, Manifest]]:
        """Each workload's name, its pods' labels and their spec."""
        for workload in self.workloads():
            template = workload["spec"]["template"]
            yield workload["metadata"]["name"], template["metadata"]["labels"], template["spec"]

    def pod(self, name: str) -> Manifest:
        """A workload's pod spec."""
        [spec] = [spec for workload, _, spec in self.pods() if workload == name]
        return spec

    def container(self, name: str) -> Manifest:
        """The one container of a workload."""
        [container] = self.pod(name)["containers"]
        found: Manifest = container
        return found

    def environment(self, name: str) -> dict[str, str | None]:
        """A workload's variables; None where the value is known to the cluster only."""
        container = self.container(name)
        values: dict[str, str | None] = {}
        for source in container.get("envFrom", []):
            values |= self.named("ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            made = [one for one in self.of("Secret") if reference and one["metadata"]["name"] == reference["name"]]
            values[variable["name"]] = _decoded(made[0], reference["key"]) if made else variable.get("value")
        return values

    def selected(self, labels: dict[str, str]) -> set[str]:
        """The workloads whose pods have these labels."""
        return {name for name, has, _ in self.pods() if labels.items() <= has.items()}


def port_number(pod: Manifest, port: int | str) -> int:
    """A container port by number or name; it must be one that a container declares."""
    declared = [one for container in pod["containers"] for one in container["ports"]]
    [found] = [one["containerPort"] for one in declared if port in {one["containerPort"], one["name"]}]
    number: int = found
    return number


@cache
def _rendered(name: str) -> str:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, and the manifests are rendered with it")
    command = ["kubectl", "kustomize", str(KUBERNETES / "overlays" / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "kustomize warns of what it will not take some day"
    return done.stdout


def _unhashed(manifest: Manifest) -> str:
    name: str = manifest["metadata"]["name"]
    return name.rpartition("-")[0] if manifest["kind"] in {"ConfigMap", "Secret"} else name


def _decoded(secret: Manifest, key: str) -> str:
    return b64decode(secret["data"][key]).decode()
