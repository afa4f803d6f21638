"""The README is true: its tables are the code's own. That its code runs is shown by tests/docs."""

import inspect
import re
from pathlib import Path
from typing import Any

import yaml

from metagame import AsyncMetaGameEnv, MetaGameEnv
from metagame.errors import TABLE
from services.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


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
    plain = (
        f"{default:g}"
        if isinstance(default, float)
        else str(default).lower()
        if isinstance(default, bool)
        else str(default)
    )
    shown = "unset" if default is None else f"`{plain}`"
    return f"| `{name}`{''.join(f' (`{other}`)' for other in openenv_names)} | {shown} | {field.description} |"
