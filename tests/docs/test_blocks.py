"""Every block of code in the README, the runbook and the documentation runs as it stands, or a list says why not."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from services import settings
from tests.docs.blocks import Block, Reader, blocks, documents, matches, pages
from tests.docs.not_run import NOT_RUN
from tests.servers import ROOT, serving

RUNS = {"python", "sh"}
DATA = {"json", "yaml", "ini"}
PICTURES = {"text"}
"""What is shown to be looked at: drawings, and what a program prints."""
PRINTS = {
    ("README.md", "curl"): '"reward":1.3',
    ("README.md", "metagame"): "steps/s",
}
"""What these must print, by their first word: their page does not show it."""
ALL = [block for page in pages() for block in blocks(page)]


def is_run(block: Block) -> bool:
    """Whether the block is code, and not in the list of what is not run."""
    return block.language in RUNS and (block.page, block.first) not in NOT_RUN


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with serving([sys.executable, "-m", "metagame", "serve", "--port", "0"], ROOT) as url:
        yield url


@pytest.mark.parametrize("page", sorted({block.page for block in ALL if is_run(block)}))
def test_what_a_page_shows_runs_as_it_stands(page: str, served: str, tmp_path: Path) -> None:
    reader = Reader(tmp_path, served, blocks(page))
    try:
        for block in blocks(page):
            if is_run(block):
                printed = reader.follow(block)
                assert PRINTS.get((page, block.first.split()[0]), "") in printed, f"{block}\nprints {printed}"
    finally:
        reader.close()


@pytest.mark.parametrize("block", [block for block in ALL if block.language in DATA], ids=str)
def test_what_is_shown_as_data_is_data_of_its_kind(block: Block) -> None:
    if block.language == "json":
        assert documents(block.code)
    elif block.language == "yaml":
        assert yaml.safe_load(block.code)
    else:
        assert set(re.findall(r"^(\w+)=", block.code, re.MULTILINE)) <= known_variables()


def test_every_block_says_what_it_is() -> None:
    assert {block.language for block in ALL} <= RUNS | DATA | PICTURES
    fences = Counter({page: (ROOT / page).read_text().count("```") for page in pages()})
    assert fences == Counter({page: 2 * number for page, number in Counter(block.page for block in ALL).items()})


@pytest.mark.parametrize("entry", NOT_RUN, ids=str)
def test_the_list_of_what_is_not_run_has_no_entry_too_many(entry: tuple[str, str]) -> None:
    named = [block for block in ALL if (block.page, block.first) == entry and not is_run(block)]
    assert len(named) == 1, "no block begins like this, or several do: take the entry off the list"
    assert named[0].language in RUNS


def test_every_make_target_and_every_test_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in pages():
        text = (ROOT / page).read_text()
        named = set(re.findall(r"^ *(?:\w+=\S+ )?make ([a-z-]+)|`make ([a-z-]+)", text, re.MULTILINE))
        assert {first or second for first, second in named} <= targets, page
        tests = set(re.findall(r"`(tests/[\w/.-]+)`", text))
        assert {name for name in tests if not (ROOT / name).exists()} == set(), page


def known_variables() -> set[str]:
    """Settings of the workers, of compose and of the balancer."""
    named = {choice for field in settings.Settings.model_fields.values() for choice in settings._choices(field)}
    for file in ("docker-compose.yml", "deploy/haproxy/haproxy.cfg"):
        named |= set(re.findall(r"^#\s.*?\b([A-Z][A-Z_]+)\b", (ROOT / file).read_text(), re.MULTILINE))
        named |= set(re.findall(r"\b([A-Z][A-Z_]+)\b", (ROOT / file).read_text()))
    return named


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ({"a": "…", "b": [1, 2]}, {"a": {"x": 1}, "b": [1, 2]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1, 2], [1], False),
        ({"a": 0.3}, {"a": 0.30000000000000004}, False),
    ],
)
def test_a_page_is_held_to_what_it_shows(shown: object, printed: object, same: bool) -> None:
    assert matches(shown, printed) is same
    assert documents(json.dumps(printed) + "\n" + json.dumps(shown)) == [printed, shown]
