"""A server with keys, and every way in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Server, run_server

FIRST, SECOND = "first-key.1", "b64/token+key~2=="


@pytest.fixture(scope="package")
def keyed() -> Iterator[Server]:
    """Two keys, as while one replaces the other."""
    with run_server(METAGAME_API_KEYS=f"{FIRST}, {SECOND}") as server:
        yield server
