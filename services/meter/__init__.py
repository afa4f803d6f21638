"""What workers count: the layout of their counts, a worker's own meter, the files it shares, and Prometheus' text."""

from .meter import Meter, Timed

__all__ = ["Meter", "Timed"]
