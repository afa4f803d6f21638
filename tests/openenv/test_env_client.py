"""`metagame.openenv`: OpenEnv's own client class over our sessions."""

import os
import subprocess
import sys

from tests.openenv.conftest import Driver
from tests.redis_servers import RedisServer, free_port
from tests.servers import ROOT, Server, run_server


def test_it_is_an_env_client_with_our_models_and_every_session_its_own(drive: Driver, echo_server: Server) -> None:
    told = drive("used_in_every_way", echo_server.url)
    assert told == {
        "types": [True] * 4,
        "ready": "Meta Game environment ready!",
        "step": [0.4, 0.4, 4, 1],
        "state": 1,
        "child": [1, 1],
        "sessions": 2,
        "after close": None,
        "many": [[number / 10] * 3 for number in range(8)],
    }


def test_it_goes_on_in_its_episode_when_workers_are_killed_under_it_and_steps_once_each(
    drive: Driver, redis_at: RedisServer
) -> None:
    port = free_port()
    settings = {"METAGAME_REDIS_URL": redis_at.url, "METAGAME_PORT": str(port)}
    with run_server(**settings) as server:
        worker = [sys.executable, "-m", "services.app"]
        played = drive("resumed", server.url, server.process.pid, worker, 3, **settings)
    taken = len(played["steps"])
    assert taken >= 200
    assert played == {"steps": list(range(1, taken + 1)), "state": ["mine", taken]}


def test_a_step_that_its_caller_gave_up_is_not_guessed_at(drive: Driver) -> None:
    with run_server() as server:
        assert drive("cut_off", server.url, server.process.pid) == ["TimeoutError", "SessionMoved", True, 1]


def test_the_handle_of_a_container_works_straight_with_sync_and_awaited_and_leaves_none_behind(drive: Driver) -> None:
    told = drive("bootstrapped", free_port(), METAGAME_PYTHON=sys.executable)
    assert told == {
        "never used": [None, False],
        "straight": [0.3, True],
        "straight, closed": [None, False],
        "with": [0.3, True],
        "sync": [0.3, True],
        "awaited": [0.3, True],
        "run, then sync": [0.3, True],
        "from a loop's threads": [0.3, True],
        "in a running loop": [0.3, True],
        "address from four threads": 1,
        "four threads": [0.3, True],
        "started": 8,
        "left running": False,
    }


def test_errors_are_those_of_openenvs_clients_and_say_what_ours_say(drive: Driver, echo_server: Server) -> None:
    told = drive("told_what_is_wrong", echo_server.url)
    kind, text, cause = told["no episode"]
    assert (kind, cause) == ("RuntimeError", "NoEpisode")
    assert text.startswith("Server error: No episode is running")
    assert text.endswith("(code: SESSION_ERROR)")
    kind, text, cause = told["no server"]
    assert (kind, cause) == ("ConnectionError", "Unavailable")
    assert text.startswith("Failed to connect to ws://127.0.0.1:1: ")
    assert told["no action"][0] == "InvalidAction"
    assert told["taken over"][::2] == ["RuntimeError", "SessionTakenOver"]
    assert told["goes on"] == [1]


def test_without_openenv_it_names_the_extra() -> None:
    code = "import metagame.openenv"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'pip install "openenv-metagame[openenv]"' in done.stderr.splitlines()[-1]


def test_what_autoenv_passes_needs_openenv_and_says_so() -> None:
    code = (
        "from metagame import MetaGameEnv\n"
        "class Mine(MetaGameEnv): pass\n"
        "try: Mine(provider=None)\n"
        "except TypeError: print('a subclass is called as ever')\n"
        "MetaGameEnv(provider=None)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "a subclass is called as ever\n"
    assert 'pip install "openenv-metagame[openenv]"' in done.stderr.splitlines()[-1]
