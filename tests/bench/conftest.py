"""Options as a short run has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.targets import Options


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """One round; no reference server, which only full runs need."""
    return Options(1, quick=False, reference_python=Path("none"), folder=tmp_path, say=lambda _: None)
