"""The pins of the image: complete, hashed, for the image's Python, and naming no host."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
EXTRAS = PROJECT["project"]["optional-dependencies"]
LOCKS = {
    "requirements.txt": [*PROJECT["project"]["dependencies"], *EXTRAS["server"], *EXTRAS["otel"]],
    "requirements-build.txt": PROJECT["build-system"]["requires"],
}
IN_THE_IMAGE = {"platform_system": "Linux", "sys_platform": "linux", "os_name": "posix", "python_version": "3.13"}


def pins(name: str) -> dict[str, str]:
    """The lines that pin, each joined with its hashes, by distribution."""
    text = (ROOT / "deploy" / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    return {canonicalize_name(re.split(r"[=\[ ]", line)[0]): line for line in lines}


@pytest.mark.parametrize("name", LOCKS)
def test_what_the_project_asks_for_is_pinned_to_a_version_that_it_takes(name: str) -> None:
    pinned = pins(name)
    wanted = [Requirement(text) for text in LOCKS[name]]
    wanted = [each for each in wanted if each.marker is None or Marker(str(each.marker)).evaluate(IN_THE_IMAGE)]
    assert wanted
    for requirement in wanted:
        line = pinned.get(canonicalize_name(requirement.name), "")
        version = re.match(r"[^=]+==(\S+)", line)
        assert version is not None, f"{requirement} is not pinned: run `make lock`"
        assert requirement.specifier.contains(version[1]), f"{requirement} is pinned to {version[1]}: run `make lock`"


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_is_a_version_with_hashes_and_nothing_else(name: str) -> None:
    pin = re.compile(r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==[0-9][\w.!+]*(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    assert [line for line in pins(name).values() if not pin.fullmatch(line)] == []


@pytest.mark.parametrize("name", LOCKS)
def test_no_host_and_no_path_is_named(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text()
    assert re.findall(r"://|--(?:index|extra-index|find-links|trusted-host)\S*|@ |(?<![\w.])/\w+", text) == []
    assert "make lock" in text


def test_the_pins_are_made_for_the_python_of_the_image() -> None:
    images = re.findall(r"^FROM python:(\d+\.\d+)-slim", DOCKERFILE, re.MULTILINE)
    assert images
    assert set(images) == {IN_THE_IMAGE["python_version"]}
    assert f"--python-version {images[0]} " in (ROOT / "Makefile").read_text()


def test_the_build_installs_nothing_that_is_not_hashed() -> None:
    installs = re.findall(r"pip (?:--python \S+ )?install (.*?)(?=\n[A-Z#]|&&)", DOCKERFILE, re.DOTALL)
    assert len(installs) == 3
    for arguments in installs:
        assert "--require-hashes" in arguments or ("--no-index" in arguments and "/wheel/*.whl" in arguments)
