"""`openenv validate --url`, as OpenEnv 0.10 has it."""

import json
import subprocess
from pathlib import Path

CRITERIA = {
    "openapi_version_available",
    "health_endpoint",
    "metadata_endpoint",
    "schema_endpoint",
    "mcp_endpoint",
    "mode_endpoint_consistency",
}


def failed_criteria(openenv: Path, url: str, *, mode: str = "simulation") -> list[str]:
    """The criteria that a server does not meet, after all of them were asked; its mode is checked on the way."""
    command = [str(openenv.with_name("openenv")), "validate", "--url", url, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert {one["id"] for one in report["criteria"]} == CRITERIA
    assert report["mode"] == mode
    failed = [one["id"] for one in report["criteria"] if not one["passed"]]
    assert (done.returncode, report["passed"]) == ((1, False) if failed else (0, True))
    return failed
