"""The README is true: its code runs as it stands, and its tables are the code's own."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from metagame import AsyncMetaGameEnv, MetaGameEnv
from metagame.errors import TABLE
from services.settings import Settings
from tests.servers import serving
from tests.survival.stock import interpreter

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python" and "from_docker_image" not in code]
"""Those on a container are run by tests/containers."""
SHELL = [code for language, code in BLOCKS if language == "sh" and "make " not in code]
"""What `make` does is run by whoever runs this test, and by .ci/run."""


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with serving([sys.executable, "-m", "metagame", "serve", "--port", "0"], ROOT) as url:
        yield url


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_runs_as_it_stands(code: str, served: str, tmp_path: Path) -> None:
    python = interpreter("METAGAME_TEST_OPENENV_PYTHON", ".venvs/openenv-0.10") if "openenv" in code else sys.executable
    command = [python, "-c", code.replace("http://localhost:8000", served)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for said in re.findall(r"print\(.*#\s*([\d.]+|Meta Game.*)$", code, re.MULTILINE):
        assert said in done.stdout.splitlines()


@pytest.mark.parametrize("code", SHELL, ids=range(len(SHELL)))
def test_shell_commands_run_as_they_stand(code: str, served: str, tmp_path: Path) -> None:
    command = ["bash", "-euo", "pipefail", "-c", code.replace("http://localhost:8000", served)]
    installed = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=installed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"code"' not in done.stdout
    assert ('"reward":1.3' if "curl" in code else "steps/s") in done.stdout


def test_every_block_is_run_or_known_not_to_be() -> None:
    assert len(PYTHON) == 5
    assert len(SHELL) == 2
    assert {language for language, _ in BLOCKS} == {"python", "sh", "text"}


def test_every_make_target_it_names_exists() -> None:
    named = set(
        re.findall(r"`?make ([a-z]+)\b", "\n".join(re.findall(r"`make [^`]*`|^make .*$", README, re.MULTILINE)))
    )
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named
    assert named <= targets


def test_every_test_it_names_exists() -> None:
    named = set(re.findall(r"`(tests/[\w/.-]+)`", README))
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_the_settings_table_is_the_settings_class() -> None:
    assert _rows("| variable | default | what |") == [_setting(field) for field in Settings.model_fields.values()]


def test_the_error_table_is_the_error_table() -> None:
    rows = [
        f"| `{kind.__name__}` | `{row.reason}` | `{row.code}` | {row.status}"
        f"{f' (GET {row.read_status})' if row.read_status else ''} | {row.rpc_code} | {row.close_code or ''} |"
        f" {(kind.__doc__ or '').splitlines()[0]} |"
        for kind, row in TABLE.items()
    ]
    assert _rows("| error | reason | frame code | HTTP | JSON-RPC | closes with | what |") == rows


def test_the_argument_table_is_the_clients_constructor() -> None:
    taken = inspect.signature(AsyncMetaGameEnv).parameters
    assert inspect.signature(MetaGameEnv).parameters.keys() == taken.keys()
    shown = dict(
        re.findall(r"^\| `(\w+)` \| (.+?) \|", "\n".join(_rows("| argument | default | what |")), re.MULTILINE)
    )
    # Named for OpenEnv's sake, and of use to few.
    rare = {"max_message_size_mb", "websocket_ping_interval_s", "websocket_ping_timeout_s"}
    assert shown.keys() == taken.keys() - rare
    words = {"session_id": "its own", "headers": "none", "api_key": "`METAGAME_API_KEY`", "transport": '`"websocket"`'}
    assert shown == {
        name: words.get(name, f"`{default:g}`" if type(default := taken[name].default) is float else f"`{default}`")
        for name in shown
    }


def test_every_module_of_the_server_is_in_the_layout() -> None:
    [picture] = [code for language, code in BLOCKS if language == "text"]
    listed = re.findall(r"^  (\S+)", picture.split("services/")[1].split("bench/")[0], re.MULTILINE)
    modules = {f"{path.name}{'/' if path.is_dir() else ''}" for path in (ROOT / "services").glob("[a-z]*")}
    assert set(listed) == modules - {"py.typed"}


def test_the_layout_is_as_shown() -> None:
    [picture] = [code for language, code in BLOCKS if language == "text"]
    folder, missing = Path(), []
    for line in picture.splitlines():
        name = line.split()[0]
        path = folder / name if line.startswith(" ") else Path(name)
        folder = folder if line.startswith(" ") else path
        missing += [] if (ROOT / path).exists() else [str(path)]
    assert missing == []


def test_the_front_matter_is_what_a_space_needs() -> None:
    shown = yaml.safe_load(README.split("---\n")[1])
    assert {key: shown[key] for key in ("sdk", "app_port", "base_path", "tags")} == {
        "sdk": "docker",
        "app_port": 8000,
        "base_path": "/web",
        "tags": ["openenv"],
    }
    assert {"title", "emoji", "colorFrom", "colorTo"} <= set(shown)


def _rows(header: str) -> list[str]:
    lines = README.splitlines()
    body = lines[lines.index(header) + 2 :]
    return body[: body.index("")]


def _setting(field: Any) -> str:
    name, *openenv_names = [str(choice) for choice in field.validation_alias.choices]
    default = field.default
    shown = "unset" if default is None else f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
    return f"| `{name}`{''.join(f' (`{other}`)' for other in openenv_names)} | {shown} | {field.description} |"
