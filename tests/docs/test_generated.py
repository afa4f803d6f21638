"""What is generated as the site is built."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from mkdocs.exceptions import PluginError

from docsite import hooks, markdown, metrics, openapi, project, python, tables
from docsite.__main__ import main
from metagame.errors import TABLE
from services.meter.exposition import TOLD_OTHERWISE
from services.meter.layout import FAMILIES
from services.settings import Settings
from tests.servers import ROOT


def test_the_settings_table_has_a_row_for_each_setting_with_what_it_takes() -> None:
    rows = tables.settings().splitlines()[2:]
    assert len(rows) == len(Settings.model_fields)
    [mode] = [row for row in rows if "`METAGAME_MODE`" in row]
    assert "<br>`--mode`<br>(`OPENENV_MODE`) | `simulation` | `simulation`, `production` |" in mode
    [ttl] = [row for row in rows if "`METAGAME_SESSION_TTL_S`" in row]
    assert "| `3600` | a number from 1 to 31,536,000 |" in ttl
    [url] = [row for row in rows if "`METAGAME_REDIS_URL`" in row]
    assert "| unset | text |" in url


def test_the_error_tables_have_every_error_once() -> None:
    assert len(tables.error_table().splitlines()) == len(TABLE) + 2
    client = tables.client_errors()
    assert "`ProtocolError`" in client
    assert "`ContainerFailed`" in client
    assert "`SessionLost`" not in client
    assert "MetaGameError\n├── InvalidRequest" in tables.error_tree()


def test_every_command_is_there_with_its_options() -> None:
    shown = tables.command_line()
    for command in ("metagame serve", "metagame demo", "metagame bench"):
        assert f"## {command} {{" in shown
    assert "--redis-url" in shown


def test_the_clients_are_shown_with_their_arguments_and_methods() -> None:
    shown = python.clients()
    assert "base_url: str = 'http://localhost:8000'," in shown
    assert "- `capacity_wait_s`: how long to wait" in shown
    assert "async def reset(" in shown
    assert "A [GameEnv](#GameEnv)" in shown


def test_the_models_are_shown_with_their_fields() -> None:
    shown = python.models()
    assert "| `message` | `str` |  | Message to echo back |" in shown
    assert "| `step_count` | `int` | `0` | Steps committed in the current episode |" in shown


def test_the_schema_does_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = openapi.schema()
    monkeypatch.setenv("METAGAME_MODE", "production")
    monkeypatch.setenv("METAGAME_MAX_MESSAGE_LENGTH", "5")
    assert openapi.schema() == plain
    assert "/step" in plain["paths"]


def test_every_operation_of_the_schema_is_on_the_page() -> None:
    shown = openapi.operations()
    for path, methods in openapi.schema()["paths"].items():
        for method in methods:
            assert f"## {method.upper()} {path} {{" in shown
    assert "| `action.message` | string (required) | Message to echo back |" in shown


def test_every_metric_is_there_with_its_labels() -> None:
    shown = metrics.metrics()
    for family in FAMILIES:
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        assert (f"| `{name}` | {family.kind} |" in shown) is (family not in TOLD_OTHERWISE), name
    assert "| `metagame_attached_sessions` | gauge | `kind`: named, anonymous | Sessions with a socket here. |" in shown
    assert "| `metagame_build_info` | gauge | `game`<br>`python`<br>`version` |" in shown


def test_the_readme_and_the_runbook_link_to_each_other_and_to_files_by_name() -> None:
    readme, runbook = (project.page(source) for source in project.PAGES.values())
    assert not readme.startswith("---")
    assert "[the runbook](runbook.md)" in readme
    assert "[README](readme.md#settings)" in runbook
    assert "`deploy/haproxy/haproxy.cfg`" in runbook
    assert "](../" not in runbook


def test_a_link_that_leads_nowhere_stops_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "ROOT", tmp_path)
    page = tmp_path / "README.md"
    page.write_text("See [this](gone.md).")
    with pytest.raises(project.NotThere, match=r"README\.md links to gone\.md"):
        project.page(page)


def test_what_cannot_be_generated_or_shown_stops_the_build() -> None:
    page: Any = SimpleNamespace(file=SimpleNamespace(src_uri="start.md"))
    with pytest.raises(PluginError, match=r"start\.md asks for 'tea'; what can be generated is .*settings"):
        hooks.on_page_markdown("<!-- generated: tea -->", page)
    with pytest.raises(PluginError, match=r"there is no docs/pictures/cat\.svg"):
        hooks.on_page_content(
            '<figure class="picture" data-picture="cat"></figure>', page, SimpleNamespace(docs_dir="docs")
        )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("[gone](gone.md)", "gone.md"),
        ("[nowhere](concepts.md#nowhere)", "nowhere"),
        ("<!-- generated: tea -->", "asks for 'tea'"),
    ],
)
def test_a_page_with_a_mistake_stops_the_build_and_is_named(wrong: str, said: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    with (tmp_path / "docs/start.md").open("a") as page:
        page.write(f"\n{wrong}\n")
    config = {"INHERIT": str(ROOT / "mkdocs.yml"), "hooks": [str(ROOT / "docsite/hooks.py")], "watch": []}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config | {"site_dir": "site"}))
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(tmp_path / "mkdocs.yml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "start.md" in done.stderr
    assert said in done.stderr


def test_what_is_no_way_to_build_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["publish"])
    assert left.value.code == 2
    assert "choose from" in capsys.readouterr().err


def test_a_docstrings_arguments_become_a_list_and_its_other_lines_stay() -> None:
    text = """One line.

    Prose: with a colon.

    first: what it is,
        and more.
    second: another.
    Prose again.
    """
    assert markdown.docstring(text, {"first", "second"}).splitlines() == [
        "One line.",
        "",
        "Prose: with a colon.",
        "",
        "",
        "- `first`: what it is,",
        "  and more.",
        "- `second`: another.",
        "",
        "Prose again.",
    ]


def test_a_bar_in_a_table_stays_in_its_cell() -> None:
    assert markdown.table(("a",), [("x | y",)]).splitlines()[-1] == "| x \\| y |"
