"""Pictures of series, one SVG for each plot's name. They need matplotlib, of the dependency group `bench`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path

from bench.targets import Series

MISSING = "Plots need matplotlib: make bench-setup, or pip install --group bench"


def can_plot() -> bool:
    """Whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(series: Iterable[Series], folder: Path) -> list[Path]:
    """Draw every plot there are points for; the files written."""
    figure_kind = importlib.import_module("matplotlib.figure").Figure  # not needed for measuring
    plots: dict[str, list[Series]] = {}
    for one in series:
        plots.setdefault(one.plot, []).append(one)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, lines in plots.items():
        figure = figure_kind(figsize=(8, 5))
        axes = figure.subplots()
        for line in lines:
            axes.plot(*zip(*line.points, strict=True), marker="o", label=line.name)
        axes.set_xscale("log")
        if name.startswith("latency"):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(lines[0].x_label)
        axes.set_ylabel(lines[0].y_label)
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend()
        path = folder / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None})
        written.append(path)
    return written
