"""Values are frozen where it is checked: by mypy."""

from dataclasses import replace
from pathlib import Path

from mypy import api

from metagame.core.session import Expect, Reset

ROOT = Path(__file__).resolve().parents[2]
SNIPPET = """
from metagame.core.session import Reset
command = Reset("e", 1, {})
command.seed = 2
"""


def test_no_field_of_a_value_is_assigned_to(tmp_path: Path) -> None:
    changed = tmp_path / "changed.py"
    changed.write_text(SNIPPET)
    config = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache")]
    output, _, code = api.run([*config, str(changed)])
    assert code == 1
    assert 'Property "seed" defined in "Reset" is read-only' in output


def test_values_are_equal_by_their_fields_and_have_no_others() -> None:
    assert Reset("e", 1, {}) == replace(Reset("e", 2, {}), seed=1)
    assert len({Expect("e", 1), Expect("e", 1), Expect("e", 2)}) == 2
    assert not hasattr(Expect("e", 1), "__dict__")
