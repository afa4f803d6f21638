"""Prometheus' text, read by Prometheus' own reader."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


@dataclass(frozen=True)
class Scrape:
    """What a server said it counted."""

    samples: tuple[Sample, ...]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the series that have these labels, of which there is one at least."""
        found = [one.value for one in self.samples if one.name == name and labels.items() <= one.labels.items()]
        assert found, f"no {name} with {labels}"
        return sum(found)

    def has(self, name: str) -> bool:
        return any(one.name == name for one in self.samples)

    def counted(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The series that are not 0, by the values of these labels, which are all they have."""
        series = [one for one in self.samples if one.name == name]
        assert all(one.labels.keys() == set(labels) for one in series)
        return {tuple(one.labels[label] for label in labels): one.value for one in series if one.value}


def read(text: str) -> Scrape:
    return Scrape(tuple(sample for family in text_string_to_metric_families(text) for sample in family.samples))


def scrape(url: str) -> Scrape:
    """What the server at this address says now."""
    with httpx.Client(trust_env=False, timeout=20) as client:
        answer = client.get(f"{url}/metrics")
    assert answer.status_code == 200
    return read(answer.text)
