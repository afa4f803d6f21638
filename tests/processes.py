"""What runs on this machine."""

from __future__ import annotations

from pathlib import Path


def processes_with(mark: str) -> list[str]:
    """Command lines of processes that inherited this variable; nothing where there is no /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_text())
        except OSError:
            continue
    return found
