"""G: a server is weighed idle and with sockets, and only if they all are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.targets.memory import WARM_UP_SOCKETS, Contestant, weigh
from metagame.cli import processes


def contestant(folder: Path, places: int) -> Contestant:
    return Contestant("ours", lambda: processes.worker("worker", folder, METAGAME_MAX_SESSIONS=str(places)), ours=True)


def test_a_server_and_its_sockets_have_a_weight(tmp_path: Path) -> None:
    one = contestant(tmp_path, 1000)
    with one.start() as server:
        weigh(one, server, 200)
    [idle_mb], [socket_kb] = one.idle_mb, one.socket_kb
    assert 20 < idle_mb < 200
    assert 2 < socket_kb < 100


def test_sockets_that_do_not_open_weigh_nothing(tmp_path: Path) -> None:
    one = contestant(tmp_path, WARM_UP_SOCKETS)
    with one.start() as server, pytest.raises(RuntimeError, match="not every socket"):
        weigh(one, server, WARM_UP_SOCKETS + 1)
    assert one.socket_kb == []
