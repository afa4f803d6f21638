"""The folder of `make space`: OpenEnv's validators and `push` accept it, and it runs as it is."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from metagame import MetaGameAction, MetaGameEnv
from metagame.games.echo import MAX_MESSAGE_LENGTH, EchoGame
from metagame.models import MetaGameAction as Action
from tests.openenv.conftest import Driver
from tests.openenv.hub import USER, Hub, hub
from tests.servers import ROOT, serving

NO_GRADER_YET = {
    "runtime.trajectory_record",
    "runtime.tool_declaration_accuracy",
    "runtime.seed_control",
    "runtime.episode_determinism",
    "runtime.host_containment",
    "runtime.resource_bounds",
    "runtime.episode_isolation",
    "runtime.oracle_containment",
}
"""Checks that OpenEnv 0.10 names and does not have."""
NEEDS_A_HELPER_IMAGE = {"runtime.network_policy"}
PASSED = {
    "static.manifest",
    "runtime.startup",
    "runtime.observation_schema",
    "runtime.reward_well_formed",
    "runtime.state_contract",
}


@pytest.fixture(scope="module")
def served(staged: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server started out of the folder as its image starts it."""
    folder = tmp_path_factory.mktemp("run") / "app"
    shutil.copytree(staged, folder)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("METAGAME_", "PYTHONPATH"))}
    environment |= {"METAGAME_PORT": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    with serving([sys.executable, "-m", "server.app"], folder, environment) as url:
        yield url


@pytest.fixture
def a_hub() -> Iterator[Hub]:
    with hub() as kept:
        yield kept


@pytest.mark.parametrize("release", ["0.2.0", "0.3.0", "0.4.2"])
def test_older_validators_pass_it(openenv: Path, validators: Path, staged: Path, release: str) -> None:
    code = "import sys; from openenv.cli.__main__ import app; sys.argv[0] = 'openenv'; app()"
    done = subprocess.run(
        [openenv, "-c", code, "validate", str(staged)],
        env=os.environ | {"PYTHONPATH": str(validators / release)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ready for multi-mode deployment" in done.stdout


def test_the_current_validator_passes_it_statically(openenv: Path, staged: Path) -> None:
    report = _validated(openenv, str(staged), "--level", "static")
    assert report["verdict"] == "pass"
    assert [(one["check_id"], one["status"]) for one in report["results"]] == [("static.manifest", "pass")]


def test_the_current_validator_passes_it_at_run_time_and_skips_what_it_does_not_have(
    drive: Driver, staged: Path, served: str
) -> None:
    report = drive("validated", str(staged), served)
    assert report.pop("verdict") == "warn"  # of what it skips
    assert {name for name, status in report.items() if status == "pass"} == PASSED
    assert {name for name, status in report.items() if status == "skip"} == NO_GRADER_YET | NEEDS_A_HELPER_IMAGE
    assert report.keys() == PASSED | NO_GRADER_YET | NEEDS_A_HELPER_IMAGE


def test_what_the_manifest_declares_is_true(staged: Path) -> None:
    manifest = yaml.safe_load((ROOT / "openenv.yaml").read_text())
    low, high = manifest["validation"]["reward"]["range"]
    game = EchoGame()
    rewards = [game.step(0, Action(message="x" * length))[1].reward for length in (0, MAX_MESSAGE_LENGTH)]
    assert rewards == [low, high]
    with pytest.raises(ValueError, match="at most 65536 characters"):
        game.action_type.model_validate({"message": "x" * (MAX_MESSAGE_LENGTH + 1)})
    assert manifest["description"] == game.description
    assert manifest["name"] == game.name
    execution = manifest["validation"]["execution"]
    assert (staged / execution["dockerfile"]).is_file()
    assert (staged / execution["probe_path"]).is_file()


def test_its_server_plays_and_its_manifest_names_it(staged: Path, served: str) -> None:
    with MetaGameEnv(served) as env:
        env.reset()
        assert env.step(MetaGameAction(message="abc")).reward == 0.3
    for path in ("/health", "/docs", "/schema", "/web/", "/web/main.js"):
        assert httpx.get(served + path, trust_env=False).status_code == 200
    manifests = {(staged / place).read_text() for place in ("openenv.yaml", "metagame/openenv.yaml")}
    assert len(manifests) == 1
    assert yaml.safe_load(manifests.pop())["app"] == "server.app:app"
    assert yaml.safe_load((ROOT / "openenv.yaml").read_text())["app"] == "services.app:app"


def test_openenvs_uv_provider_starts_it_from_another_folder(
    drive: Driver, staged: Path, uv: str, tmp_path: Path
) -> None:
    project = shutil.copytree(staged, tmp_path / "project")
    path = f"{Path(uv).parent}{os.pathsep}{os.environ['PATH']}"
    assert drive("provided", str(project), packages=tmp_path, PATH=path) == ["Meta Game environment ready!", 0.3]


def test_push_uploads_it_whole_with_the_options_that_people_know(
    openenv: Path, staged: Path, a_hub: Hub, tmp_path: Path
) -> None:
    options = ["--repo-id", f"{USER}/rollouts", "--private", "--base-image", "python:3.12-slim"]
    secret = ["--secret", "METAGAME_REDIS_URL=redis://elsewhere"]
    done = _push(openenv, a_hub, tmp_path, str(staged), *options, *secret, "--env-var", "METAGAME_MAX_SESSIONS=500")
    assert done.returncode == 0, done.stdout + done.stderr
    [made] = a_hub.made
    assert (made["name"], made["sdk"], made["visibility"]) == ("rollouts", "docker", "private")
    [(space, files)] = a_hub.files.items()
    assert space == f"{USER}/rollouts"
    local = {str(path.relative_to(staged)): path.read_bytes() for path in staged.rglob("*") if path.is_file()}
    assert files.keys() == local.keys()
    assert {name for name in local if files[name] != local[name]} == {"Dockerfile"}
    dockerfile = files["Dockerfile"].decode()
    assert re.findall(r"^FROM .*", dockerfile, re.MULTILINE) == ["FROM python:3.12-slim"]
    assert "ENV ENABLE_WEB_INTERFACE=true\nCMD " in dockerfile
    assert a_hub.variables == {space: {"METAGAME_MAX_SESSIONS": "500"}}
    assert a_hub.secrets == {space: {"METAGAME_REDIS_URL": "redis://elsewhere"}}
    [readme] = a_hub.front_matter
    assert yaml.safe_load(readme.split("---\n")[1])["base_path"] == "/web"


def test_push_takes_the_folder_it_stands_in_and_the_manifests_name(
    openenv: Path, staged: Path, a_hub: Hub, tmp_path: Path
) -> None:
    done = _push(openenv, a_hub, tmp_path, "--no-interface", cwd=staged)
    assert done.returncode == 0, done.stdout + done.stderr
    [(space, files)] = a_hub.files.items()
    assert (space, a_hub.made[0]["visibility"]) == (f"{USER}/meta_game", "public")
    assert files["Dockerfile"] == (staged / "Dockerfile").read_bytes()


def test_its_packages_are_the_projects_and_its_pins_come_from_the_public_index(staged: Path) -> None:
    for ours, theirs in (("metagame", "metagame"), ("meta_game", "meta_game"), ("services", "metagame_server")):
        names = {path.relative_to(ROOT / ours) for path in (ROOT / ours).rglob("*.*") if path.is_file()}
        names = {name for name in names if "__pycache__" not in name.parts}
        assert len(names) > 1
        assert [
            name for name in names if (staged / theirs / name).read_bytes() != (ROOT / ours / name).read_bytes()
        ] == []
    lock = (staged / "uv.lock").read_text()
    assert set(re.findall(r"https?://[^/]+", lock)) == {"https://pypi.org", "https://files.pythonhosted.org"}
    assert not [line for line in (staged / "requirements.txt").read_text().splitlines() if "://" in line]
    project = tomllib.loads((staged / "pyproject.toml").read_text())["project"]
    assert not {"VERSION", "DEPENDENCIES", "OPENENV"} & {*project["dependencies"], project["version"]}
    tracked = subprocess.run(["git", "ls-files", "*uv.lock"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert tracked.stdout == ""


def test_staging_again_replaces_the_folder_and_leaves_any_other_alone(uv: str, staged: Path, tmp_path: Path) -> None:
    earlier = shutil.copytree(staged, tmp_path / "space")
    (earlier / "stale.py").write_text("")
    assert _stage(str(earlier), "--uv", uv).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"space"}
    assert not (earlier / "stale.py").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("all of it")
    refused = _stage(str(mine), "--uv", uv)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "holds something else" in refused.stderr
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


def test_staging_without_a_working_uv_says_so_and_changes_nothing(tmp_path: Path) -> None:
    refused = _stage(str(tmp_path / "space"), "--uv", str(tmp_path / "no-uv"))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "pip install uv" in refused.stderr
    refused = _stage(str(tmp_path / "space"), "--uv", "false")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "uv lock failed" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def _stage(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "space", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _push(
    openenv: Path, a_hub: Hub, tmp_path: Path, *arguments: str, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    environment = {"HF_ENDPOINT": a_hub.url, "HF_TOKEN": "hf_of_nobody", "HF_HOME": str(tmp_path)}
    return subprocess.run(
        [openenv.with_name("openenv"), "push", *arguments],
        cwd=cwd,
        env=os.environ | environment | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def _validated(openenv: Path, *arguments: str) -> Any:
    command = [str(openenv.with_name("openenv")), "validate", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)
