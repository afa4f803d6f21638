"""Style, types, import direction and the other ratchets: what is written down, checked."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("limits", "errors", "models", "games", "core", "wire", "client", "openenv", "load", "cli")
"""Inside `metagame` each may import only those before it; `_version` is anybody's."""
SERVICES = (
    "settings",
    "meter",
    "store",
    "records",
    "events",
    "resend",
    "attachment",
    "submission",
    "engine",
    "tracing",
    "lifecycle",
    "vitals",
    "surfaces",
    "upkeep",
    "logs",
    "supervisor",
    "serve",
    "app",
)
"""Inside `services` each may import only those before it; the README lists them from the other end."""
PROGRAMS = ("metagame", "meta_game", "services", "bench", "chaos", "docsite", "release", "space")
NEVER_IMPORTED = {"services", "metagame_server", *PROGRAMS} - {"metagame", "meta_game"}
"""By what is shipped: the server goes by another name in the wheel, and the rest is not in it."""
SOURCES = sorted(path for top in PROGRAMS for path in (ROOT / top).rglob("*.py"))


def test_every_file_is_formatted() -> None:
    _passes("ruff", "format", "--check", "--diff", ".")


def test_every_file_passes_the_linter() -> None:
    _passes("ruff", "check", ".")


def test_every_file_passes_the_type_checker() -> None:
    _passes("mypy")


def test_every_exception_for_the_linter_or_type_checker_says_why() -> None:
    """In tests a type may be ignored without: they misuse what they test on purpose."""
    bare = {
        path: r"# noqa(: [A-Z0-9, ]+)?$" + ("" if path not in SOURCES else r"|# type: ignore(\[[^]]*\])?$")
        for path in [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]
    }
    without_reason = [
        f"{path.relative_to(ROOT)}:{number}"
        for path, pattern in bare.items()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert without_reason == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    package, *inside = path.relative_to(ROOT).with_suffix("").parts
    imported = set(_imports(path))
    assert not {name for name in imported if name.split(".")[0] == "tests"}
    if package in {"metagame", "meta_game"}:
        assert not {name for name in imported if name.split(".")[0] in NEVER_IMPORTED}
    if package == "services":
        # In the wheel the package has another name, so it never says its own.
        assert not {name for name in imported if name.split(".")[0] in NEVER_IMPORTED}
    if package == "metagame" and inside[0] in LAYERS:
        above = LAYERS[LAYERS.index(inside[0]) + 1 :]
        assert not {
            name
            for name in imported
            if name.split(".")[:1] == ["metagame"] and name.split(".")[1:2] and name.split(".")[1] in above
        }


@pytest.mark.parametrize("name", ["journal", "records", "judge", "together", "checker", "hits"])
def test_what_judges_the_server_shares_no_code_with_it(name: str) -> None:
    """The checker's side of `chaos` imports the standard library and its own modules, nothing else."""
    own = {f"chaos.{one}" for one in ("journal", "records", "judge", "together", "checker")}
    imported = {module.split(".")[0] for module in _imported_modules(ROOT / "chaos" / f"{name}.py") - own}
    assert imported <= sys.stdlib_module_names
    assert _imported_modules(ROOT / "chaos" / "__init__.py") == set()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "services").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_imports_inside_services_go_down(path: Path) -> None:
    inside = path.relative_to(ROOT / "services").with_suffix("").parts
    if inside == ("__init__",):
        return
    above = SERVICES[SERVICES.index(inside[0]) + 1 :]
    siblings = {
        (node.module or alias.name).split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level == len(inside)
        for alias in node.names
    }
    assert siblings <= {*SERVICES, *inside}
    assert not siblings & set(above)


def test_no_path_of_a_machine_is_in_the_tree() -> None:
    machine = re.compile(r"(?<![\w.])/(?:home|Users|root|work)/\w|/tmp/\w")
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name in _tracked()
        for number, line in enumerate((ROOT / name).read_text(errors="ignore").splitlines(), 1)
        if machine.search(line) and name != "tests/test_style.py"
    ]
    assert found == []


def test_the_manifest_and_the_package_have_one_version() -> None:
    version: dict[str, str] = {}
    exec((ROOT / "metagame/_version.py").read_text(), version)
    manifest = yaml.safe_load((ROOT / "openenv.yaml").read_text())
    assert manifest["version"] == version["__version__"]


def _passes(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def _imported_modules(path: Path) -> set[str]:
    """Modules by whichever statement imports them, relative ones with their dots."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return names


def _tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        return [str(path.relative_to(ROOT)) for path in SOURCES]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
