"""The ports that tests take: two who took the same one would fail one run in a hundred, and nobody knew why."""

from __future__ import annotations

import pytest

from tests.redis_servers import free_port

DRAWS = 100


def test_no_port_is_given_twice() -> None:
    assert len({free_port() for _ in range(DRAWS)}) == DRAWS


def test_processes_beside_each_other_get_other_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    drawn = []
    for worker in ("gw0", "gw1"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        drawn.append({free_port() // 2 % 2 for _ in range(DRAWS)})
    assert drawn == [{0}, {1}]
