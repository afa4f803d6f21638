"""`metagame serve` as a process: what it takes of the system."""

from __future__ import annotations

import resource
import sys

import pytest

from tests.servers import run_server

FEW = 256


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells another process' limits")
def test_a_server_allows_itself_as_many_open_files_as_it_may_have() -> None:
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, most))
    try:
        with run_server() as server:
            assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (most, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))
