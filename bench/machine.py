"""What was measured on, and with which versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.contestants import ROOT

_PACKAGES = ("uvicorn", "uvloop", "httptools", "websockets", "redis", "fastapi", "pydantic")


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system, load before the run."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": round(os.getloadavg()[0], 2),
    }


def versions(reference_python: Path) -> dict[str, str]:
    """Of what is measured; a revision with + has changes that are not committed."""
    asked = [str(reference_python), "-c", "import importlib.metadata as m; print(m.version('openenv'))"]
    revision = _said(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"])
    changed = _said(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    return {
        "metagame": version("openenv-metagame"),
        "revision": revision + ("+" if changed else ""),
        "python": platform.python_version(),
        "redis-server": _said(["redis-server", "--version"]).partition("v=")[2].partition(" ")[0],
        "openenv": _said(asked) if reference_python.exists() else "",
    } | {name: version(name) for name in _PACKAGES}


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
