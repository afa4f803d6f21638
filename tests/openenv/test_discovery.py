"""OpenEnv's AutoEnv and AutoAction find the wheel, ours and the one that pip makes of the Space's folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from metagame import __version__
from metagame.games.echo import EchoGame
from tests.openenv.conftest import Driver
from tests.redis_servers import free_port
from tests.servers import ROOT, Server


@pytest.fixture(scope="session")
def packages(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed, and nothing else."""
    return _installed(uv, ROOT, tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session", params=["project", "space"])
def either(request: pytest.FixtureRequest, uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, or with what pip makes of the Space's folder, as AutoEnv has it install a Space from the hub."""
    if request.param == "project":
        folder: Path = request.getfixturevalue("packages")
        return folder
    return _installed(uv, request.getfixturevalue("staged"), tmp_path_factory.mktemp("space"))


def test_one_key_leads_to_our_classes_by_every_form_of_the_name(drive: Driver, either: Path, tmp_path: Path) -> None:
    found = drive("discovered", packages=either, XDG_CACHE_HOME=str(tmp_path))
    assert found == {
        "keys": ["meta_game"],
        "info": {
            "name": "meta_game_env",
            "package": "openenv-metagame",
            "version": __version__,
            "description": EchoGame.description,
            "default_image": "meta-game-env:latest",
        },
        "clients": ["metagame.client.synchronous.MetaGameEnv"] * 4,
        "actions": ["metagame.models.MetaGameAction"] * 4,
    }


def test_what_autoenv_returns_is_an_env_client_that_plays_as_the_documentation_does(
    drive: Driver, packages: Path, tmp_path: Path, echo_server: Server
) -> None:
    played = drive("played_by_auto", echo_server.url, packages=packages, XDG_CACHE_HOME=str(tmp_path))
    assert played == {"kinds": [True, "metagame.openenv"], "rewards": [0.4, 0.8, 0.5]}


def test_autoenv_starts_the_image_that_make_image_builds(drive: Driver, packages: Path, tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path), "METAGAME_PYTHON": sys.executable}
    started = drive("started_by_auto", free_port(), packages=packages, **environment)
    assert started == {"images": ["meta-game-env:latest"] * 2, "rewards": [0.3, 0.3], "running": False}
    assert "--tag meta-game-env:latest" in (ROOT / "Makefile").read_text()


def _installed(uv: str, source: Path, folder: Path) -> Path:
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target"]
    done = subprocess.run([*command, str(folder), str(source)], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder
