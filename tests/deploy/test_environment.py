"""Every variable that a manifest or compose sets is one that somebody reads, and its value is allowed."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from services.settings import Settings, load_settings
from tests.deploy.rendered import KUBERNETES, Overlay
from tests.servers import ROOT

SETTINGS = {str(name) for field in Settings.model_fields.values() for name in field.validation_alias.choices}  # type: ignore[union-attr] # every field has names
HAPROXY = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
BALANCER = set(re.findall(r"^\s*presetenv (\w+)", HAPROXY, re.MULTILINE)) | set(re.findall(r"\$\{(\w+)\}", HAPROXY))
REDIS = set(re.findall(r"\$\{?(\w+)", (ROOT / "deploy" / "redis" / "start.sh").read_text())) | {"REDISCLI_AUTH"}
COMPOSE = ROOT / "docker-compose.yml"
SECRETS = {"METAGAME_REDIS_URL": "rediss://user:password@host:6379/0", "METAGAME_API_KEYS": "first-key,second-key"}
"""What only the cluster knows."""


def test_the_lists_are_read_as_meant() -> None:
    assert {"METAGAME_REDIS_URL", "METAGAME_ROOT_PATH", "MAX_CONCURRENT_ENVS", "PORT"} <= SETTINGS
    assert {"BALANCER_BIND", "BALANCER_TLS_PEM", "BALANCER_NOFILE"} <= BALANCER
    assert {"REDIS_PASSWORD", "REDIS_MAXMEMORY"} <= REDIS


def test_every_variable_in_a_manifest_has_a_reader(overlay: Overlay) -> None:
    workers = (KUBERNETES / "base" / "workers.cfg").read_text()
    readers = {"worker": SETTINGS, "balancer": BALANCER | set(re.findall(r"\$\{(\w+)\}", workers)), "redis": REDIS}
    for name, _, _ in overlay.pods():
        values = overlay.environment(name)
        woven = set(re.findall(r"\$\((\w+)\)", " ".join(value or "" for value in values.values())))
        assert woven <= values.keys()
        assert values.keys() - woven <= readers[name], name


def test_the_workers_settings_are_allowed(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in overlay.environment("worker").items():
        monkeypatch.setenv(name, value or SECRETS[name])
    settings = load_settings()
    assert settings.redis_url is not None, "without it each worker would have sessions of its own"
    assert settings.workers == 1, "pods are scaled, and each is drained by itself"


def test_kubernetes_own_variables_cannot_pass_for_settings(overlay: Overlay) -> None:
    # A Service named `metagame` would be METAGAME_PORT=tcp://… in every pod beside it.
    assert {pod["enableServiceLinks"] for _, _, pod in overlay.pods()} == {False}


def test_the_workers_and_the_redis_of_the_dev_overlay_agree(dev: Overlay) -> None:
    url = dev.environment("worker")["METAGAME_REDIS_URL"]
    password = dev.environment("redis")["REDIS_PASSWORD"]
    [port] = dev.named("Service", "redis")["spec"]["ports"]
    assert url == f"redis://:{password}@redis:{port['port']}/0"


def test_every_variable_that_compose_sets_has_a_reader() -> None:
    readers = {"worker": SETTINGS, "balancer": BALANCER, "redis": REDIS}
    for name, service in _services().items():
        if name == "grafana":
            assert all(re.match("GF_[A-Z]+_[A-Z_]+$", variable) for variable in _environment(service))
        else:
            read_by_libraries = {one for one in _environment(service) if one.startswith("OTEL_") and name == "worker"}
            assert set(_environment(service)) - read_by_libraries <= readers.get(name, set()), name


def test_every_variable_that_compose_passes_on_has_a_reader() -> None:
    named = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    assert {name for name in named if name.startswith("METAGAME_")} <= SETTINGS
    assert {name for name in named if name.startswith("BALANCER_")} <= BALANCER


def _services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return services


def _environment(service: dict[str, Any]) -> list[str]:
    variables = service.get("environment", {})
    return [one.partition("=")[0] for one in variables] if isinstance(variables, list) else list(variables)
