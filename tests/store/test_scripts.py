"""Scripts keep to their headers, and the typed place to the scripts."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from hiredis import pack_command

from services.store import scripts

SOURCES = sorted((Path(scripts.__file__).parent / "lua").glob("*.lua"))
MAX_LINES = 60


def header(source: str, name: str) -> list[str]:
    """The names a header line lists, without what is said of them in brackets."""
    line = re.search(rf"^-- {name}:(.*)$", source, re.MULTILINE)
    assert line is not None, f"no {name} in the header"
    names = re.sub(r"\([^)]*\)", "", line[1])
    return [one.strip() for one in names.split(",") if one.strip()]


def test_there_is_a_function_a_script_and_a_script_a_function() -> None:
    functions = {
        name
        for name, value in vars(scripts).items()
        if inspect.isfunction(value) and value.__module__ == scripts.__name__ and not name.startswith("_")
    }
    assert functions == {path.stem for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_script_s_keywords_are_its_keys_and_arguments_in_order(path: Path) -> None:
    source = path.read_text()
    function = getattr(scripts, path.stem)
    parameters = inspect.signature(function).parameters.values()
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters)
    names = header(source, "KEYS") + header(source, "ARGV")
    assert [parameter.name for parameter in parameters] == names
    given = {one.name: one.name if "str" in str(one.annotation) else one.name.encode() for one in parameters}
    command = function(**given)
    assert command.words[3:] == tuple(given.values())
    assert command.packed in {None, pack_command(command.words)}
    for number, name in enumerate(header(source, "ARGV"), 1):
        assert f"ARGV[{number}]" in source, f"{name} is not read"
    assert f"ARGV[{len(header(source, 'ARGV')) + 1}]" not in source
    assert "KEYS[2]" not in source


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_script_is_short_says_what_it_answers_and_parses_nothing(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= MAX_LINES
    promised = set(re.findall(r"[{ ,]([a-z]+)[},]", re.search(r"^-- OUT:.*$", source, re.MULTILINE)[0]))  # type: ignore[index]
    code = "\n".join(line for line in source.splitlines() if not line.startswith("--"))
    assert set(re.findall(r"\{'([a-z]+)'", code)) <= promised
    assert not re.search(r"cjson|cmsgpack|struct\.|redis\.(pcall|setresp)|os\.|math\.random", code)


def test_a_missing_or_extra_argument_fails_before_any_io() -> None:
    with pytest.raises(TypeError):
        scripts.renew(record="r", attachment=b"a", ttl_ms="1")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        scripts.inspect(record="r", more="x")  # type: ignore[call-arg]
