"""Every metric, out of the very text that `/metrics` answers."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from docsite.markdown import code, table
from services.meter.exposition import Facts, render
from services.meter.layout import CELLS
from services.meter.shared import Totals

_MANY = 8
"""Values of a label beyond which they are not listed."""
_BUILD = {"version": "…", "python": "…", "game": "…"}


def metrics() -> str:
    """Each with its kind, its labels and their values, and what it says of itself."""
    text, _ = render(Totals([0] * CELLS, 1), Facts(_BUILD, 1, 0, redis=True), "")
    rows = []
    for family in text_string_to_metric_families(text.decode()):
        labels: dict[str, dict[str, None]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                labels.setdefault(label, {})[value] = None
        labels.pop("le", None)
        name = f"{family.name}_total" if family.type == "counter" else family.name
        shown = "<br>".join(f"{code(label)}{_values(list(values))}" for label, values in labels.items())
        rows.append((code(name), family.type, shown, family.documentation))
    return table(("metric", "kind", "labels", "what"), rows)


def _values(values: list[str]) -> str:
    return "" if len(values) > _MANY or values == ["…"] else f": {', '.join(values)}"
