"""docker-compose.yml against what it configures; no engine needed."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from services.settings import PREFIX, Settings
from tests.servers import ROOT

OWN = {"HOST", "PORT", "WORKERS"}
"""Fixed in a container: scale the service instead."""


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_every_setting_of_a_worker_can_be_given(compose: Any) -> None:
    settings = {PREFIX + name.upper() for name in Settings.model_fields if name.upper() not in OWN}
    given = set(compose["services"]["worker"]["environment"])
    assert {name for name in given if not name.startswith("OTEL_")} == settings
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in given


def test_every_setting_of_the_balancer_can_be_given_and_is_explained() -> None:
    configuration = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()
    head, _, rest = configuration.partition("\nglobal\n")
    used = set(re.findall(r"\$\{?(BALANCER_\w+)", rest))
    assert used == set(re.findall(r"BALANCER_\w+", (ROOT / "docker-compose.yml").read_text()))
    assert used == set(re.findall(r"^#   (BALANCER_\w+)", head, re.MULTILINE))


def test_every_variable_is_explained_in_the_files_head(compose: Any) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    head, _, rest = text.partition("\nname: ")
    used = {name for name in re.findall(r"\$\{(\w+)", rest) if not name.startswith(PREFIX)}
    assert {name for name in used if not re.search(rf"^#   .*\b{name}\b", head, re.MULTILINE)} == set()


def test_the_default_grace_period_is_longer_than_the_default_drain(compose: Any) -> None:
    grace = compose["services"]["worker"]["stop_grace_period"]
    assert grace == "${STOP_GRACE_PERIOD:-30s}"
    assert Settings.model_fields["drain_timeout_s"].default < 30
