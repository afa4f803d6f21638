"""What importing loads, and what there is to import."""

import subprocess
import sys

import pytest

import meta_game
import metagame

HEAVY = ["pydantic", "httpx", "websockets", "asyncio", "fastapi", "uvicorn", "redis", "structlog", "orjson", "services"]

NAMES = """
AnswerForgotten AsyncGameEnv AsyncMetaGameEnv CapacityReached ConnectionLost ContainerFailed EpisodeOver Forbidden
GameEnv GameFailed HttpTransport InvalidAction InvalidJson InvalidRequest InvalidSessionId LocalTransport MetaGameAction
MetaGameEnv MetaGameError MetaGameObservation MetaGameState NoEpisode ProtocolError RequestConflict SessionError
SessionLost SessionMoved SessionTakenOver StepResult TooLarge Transport Unauthorized Unavailable UnknownFrameType
WebSocketTransport __version__
"""


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("package", ["metagame", "meta_game"])
def test_importing_the_package_loads_nothing_it_may_not_need(package: str) -> None:
    code = f"import sys, {package}; dir({package}); print([name for name in {HEAVY} if name in sys.modules])"
    assert run(code) == "[]\n"


def test_errors_need_no_pydantic_and_the_client_no_server() -> None:
    assert run("import sys; from metagame import SessionLost; print('pydantic' in sys.modules)") == "False\n"
    servers = [name for name in HEAVY[4:] if name != "orjson"]
    code = f"import sys; from metagame import MetaGameEnv; print([name for name in {servers} if name in sys.modules])"
    assert run(code) == "[]\n"


def test_the_exported_names_are_these_and_all_can_be_had() -> None:
    assert metagame.__all__ == NAMES.split()
    for name in metagame.__all__:
        assert getattr(metagame, name) is getattr(meta_game, name)
        assert name in dir(metagame)
    assert not hasattr(metagame, "nothing")


@pytest.mark.parametrize(
    "first",
    ["import metagame, metagame.client.websocket", "import meta_game", "import meta_game.client.websocket, metagame"],
)
def test_the_alias_has_the_same_modules_whichever_is_imported_first(first: str) -> None:
    code = f"""
{first}
import importlib, sys
import metagame.client.websocket, meta_game.client.websocket, meta_game.errors, meta_game.core.session
from meta_game.client import MetaGameEnv
from meta_game.client.local import LocalTransport
assert MetaGameEnv is metagame.MetaGameEnv and LocalTransport is metagame.LocalTransport
assert meta_game.client.websocket is metagame.client.websocket is sys.modules["meta_game.client.websocket"]
assert meta_game.errors is sys.modules["metagame.errors"]
assert meta_game.errors.__spec__.name == meta_game.errors.__name__ == "metagame.errors"
assert meta_game.core.session.__spec__.loader is not meta_game.__spec__.loader
importlib.reload(metagame.errors)
try:
    import meta_game.nothing
except ModuleNotFoundError as error:
    print(error)
"""
    assert run(code) == "No module named 'metagame.nothing'\n"


def test_openenv_finds_the_classes_in_the_client_module() -> None:
    import metagame.client  # noqa: PLC0415 - what is looked up there is the point

    for name in ("MetaGameEnv", "MetaGameAction", "MetaGameObservation"):
        assert getattr(metagame.client, name) is getattr(metagame, name)
