"""`python -m chaos` as somebody types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def chaos(*arguments: str, tmp: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end; its temporary files go to `tmp`."""
    return subprocess.run(
        [sys.executable, "-m", "chaos", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": str(tmp)} | environment,
        timeout=280,
    )
