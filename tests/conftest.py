"""Fixtures of all tests."""

from collections.abc import Iterator

import pytest

from tests.servers import Server, run_server


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def echo_server() -> Iterator[Server]:
    """A server of its own for each test module, on the memory store and the default settings."""
    with run_server() as server:
        yield server
