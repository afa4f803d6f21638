"""`python -m release`: what it finds in a tree, and what it says."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from release import checks
from release.__main__ import main
from release.checks import CheckFailed, NotCheckable, Tree
from tests.servers import ROOT
from tests.survival.stock import made

HEADING = "## [1.2.0] - 2026-12-01"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """The files that a release's version stands in, committed."""
    (tmp_path / "metagame").mkdir()
    (tmp_path / "metagame/_version.py").write_text('"""Here."""\n\n__version__ = "1.2.0"\n')
    (tmp_path / "openenv.yaml").write_text('name: meta_game\nversion: "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(
        f"# Changelog\n\n{HEADING}\n\n### Added\n\n- It.\n\n## [1.1.0] - 2026-11-01\n"
    )
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=n", "-c", "user.email=e@example.com", "commit", "--quiet", "--message", "All")
    return Tree(tmp_path)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def test_a_tree_that_is_ready_passes(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "tree", "--tree", str(tree.root)]) == 0
    version, clean = capsys.readouterr().out.splitlines()
    assert version.split()[:2] == ["version", "passed"]
    assert clean.split()[:2] == ["tree", "passed"]


@pytest.mark.parametrize(
    "heading", ["## [Unreleased]", "## [1.1.0] - 2026-11-01", "## [1.2.0]", "## 1.2.0 - 2026-12-01"]
)
def test_a_changelog_that_does_not_begin_with_the_version_and_a_date_fails(tree: Tree, heading: str) -> None:
    changelog = tree.root / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace(HEADING, heading))
    with pytest.raises(CheckFailed, match=r"make it '\[1\.2\.0\] - <date>'"):
        checks.version(tree)


def test_a_manifest_of_another_version_fails(tree: Tree) -> None:
    (tree.root / "openenv.yaml").write_text('version: "1.1.0"\n')
    with pytest.raises(CheckFailed, match=r"openenv\.yaml says 1\.1\.0 and metagame/_version\.py 1\.2\.0"):
        checks.version(tree)


def test_a_version_file_that_is_something_else_fails(tree: Tree) -> None:
    (tree.root / "metagame/_version.py").write_text("VERSION = 1\n")
    with pytest.raises(CheckFailed, match="has no line"):
        checks.version(tree)


def test_a_changed_and_an_untracked_file_fail(tree: Tree) -> None:
    (tree.root / "new.txt").touch()
    (tree.root / "openenv.yaml").write_text("version: 2\n")
    with pytest.raises(CheckFailed, match=r"2 files are changed or untracked"):
        checks.clean(tree)


def test_pins_that_make_lock_would_change_fail_and_stay_as_they_were(tree: Tree) -> None:
    for name in checks.LOCKS:
        (tree.root / name).parent.mkdir(exist_ok=True)
        (tree.root / name).write_text("old\n")
    (tree.root / "Makefile").write_text("lock:\n\t@echo new > deploy/requirements.txt\n")
    with pytest.raises(CheckFailed, match=r"other pins in deploy/requirements\.txt: run it"):
        checks.lock(tree)
    assert [(tree.root / name).read_text() for name in checks.LOCKS] == ["old\n", "old\n"]
    (tree.root / "Makefile").write_text("lock:\n\t@true\n")
    assert checks.lock(tree) == "pins are current"


def test_what_an_outer_make_was_told_is_not_for_the_makes_of_the_checks(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in checks.LOCKS:
        (tree.root / name).parent.mkdir(exist_ok=True)
        (tree.root / name).write_text("old\n")
    (tree.root / "Makefile").write_text("lock:\n\t@test -z '$(ARGS)'\n")
    monkeypatch.setenv("MAKEFLAGS", " -- ARGS=lock")
    monkeypatch.setenv("ARGS", "lock")
    assert checks.lock(tree) == "pins are current"


def test_a_command_that_fails_is_told_with_what_it_said(tree: Tree) -> None:
    (tree.root / "Makefile").write_text("lock:\n\t@echo no index >&2; exit 7\n")
    for name in checks.LOCKS:
        (tree.root / name).parent.mkdir(exist_ok=True)
        (tree.root / name).write_text("old\n")
    with pytest.raises(CheckFailed, match=r"`make --silent lock` failed:\n(.*\n)*no index"):
        checks.lock(tree)


def test_what_this_machine_lacks_is_said_and_is_no_failure(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _command: None)
    with pytest.raises(NotCheckable, match="docker is not there"):
        checks.image(tree)
    assert main(["image", "--tree", str(tree.root)]) == 0
    assert "not checked" in capsys.readouterr().out


def test_an_install_without_a_wheel_says_what_to_run_first(tree: Tree) -> None:
    with pytest.raises(CheckFailed, match="run the check `packages` first"):
        checks.install(tree)


def test_a_failure_is_told_the_rest_goes_on_and_the_exit_code_is_1(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree.root / "openenv.yaml").write_text("version: 2\n")
    assert main(["version", "tree", "--json", "--tree", str(tree.root)]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["schema_version"], shown["passed"]) == (1, False)
    assert [(one["check"], one["outcome"]) for one in shown["checks"]] == [("version", "FAILED"), ("tree", "FAILED")]


def test_a_check_that_there_is_none_of_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["tea"])
    assert left.value.code == 2
    assert "there is no check tea; there are version, tree" in capsys.readouterr().err


def test_the_packages_of_this_project_build_install_and_run(tmp_path: Path) -> None:
    """The real thing, on a copy of what is tracked, so that nothing is left in this tree."""
    copy = tmp_path / "copy"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    tree = Tree(copy, str(made(".venvs/lock") / "bin" / "uv"))
    assert checks.packages(tree).endswith("in build/release")
    assert checks.install(tree) == f"metagame {tree.version}; demo: 8 episodes, 40 steps, all as they should be"


def test_every_check_is_on_the_page_about_releases() -> None:
    page = (ROOT / "docs/release.md").read_text()
    assert [name for name in checks.CHECKS if f"| `{name}` |" not in page] == []
