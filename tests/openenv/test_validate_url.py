"""`openenv validate --url` passes one worker and four; tests/containers has it on the compose pool."""

from pathlib import Path

import httpx
import yaml

from tests.openenv.validate import failed_criteria
from tests.redis_servers import RedisServer
from tests.servers import ROOT, Server, run_server


def test_one_worker_passes_every_criterion(openenv: Path, echo_server: Server) -> None:
    assert failed_criteria(openenv, echo_server.url) == []


def test_four_workers_pass_every_criterion(openenv: Path, redis_at: RedisServer) -> None:
    with run_server(METAGAME_WORKERS="4", METAGAME_REDIS_URL=redis_at.url) as server:
        try:
            failed = failed_criteria(openenv, server.url)
        finally:
            server.terminate()  # with its workers
    assert failed == []


def test_a_server_under_a_path_passes_every_criterion(openenv: Path) -> None:
    with run_server(METAGAME_ROOT_PATH="/envs/metagame") as server:
        assert failed_criteria(openenv, f"{server.url}/envs/metagame") == []


def test_the_tools_that_the_manifest_declares_are_those_that_are_listed(echo_server: Server) -> None:
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    with httpx.Client(trust_env=False) as client:
        answer = client.post(f"{echo_server.url}/mcp", json=asked).json()
    manifest = yaml.safe_load((ROOT / "openenv.yaml").read_text())
    declared = manifest["validation"]["capabilities"]["declared_tools"]
    assert sorted(tool["name"] for tool in answer["result"]["tools"]) == sorted(declared)
