"""What a worker counts, and where each count stands: families of series, in cells of 64 bits.

Every label has few values, all known here, so that the layout is known at import and the same in each worker
of one release. Neither sessions nor clients are labels. What is not in the tables below cannot be counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from metagame.core.session import Kind
from metagame.errors import TABLE

Labels = tuple[str, ...]

NANO = 1_000_000_000
DURATIONS_NS = tuple(
    round(seconds * NANO)
    for seconds in (
        *(0.0001, 0.0002, 0.0003, 0.0005, 0.0007, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.007, 0.01),
        *(0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    )
)
"""Close together where steps are, 0.3 to 50 ms, and up to where a client has given up."""
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SUM = len(DURATIONS_NS) + 1
"""How far behind a duration's first bucket its sum stands."""
BATCH_SUM = len(BATCH_SIZES) + 1

OPERATIONS = {
    "http": ("reset", "step", "state", "make", "list", "inspect", "end", "pool"),
    "web": ("reset", "step", "state"),
    "websocket": ("connect", "reset", "step", "state", "mcp", "close", "unreadable"),
    "mcp": ("connect", "initialize", "tools/list", "tools/call", "session/create", "session/close", "other"),
}
"""By surface. `connect`: a handshake until its session is had; `unreadable`: a frame that is no request."""
BUG = ("INTERNAL_SERVER_ERROR", "bug")
"""Code and reason of what only the log explains."""
REASONS_BY_CODE = (*dict.fromkeys((row.code, row.reason) for row in TABLE.values()), BUG)
CODES = tuple(dict.fromkeys(code for code, _ in REASONS_BY_CODE))
OUTCOMES = ("committed", "replayed", "conflict", "stale", "superseded", "gone", "unknown", "refused")
"""The store's words for a commit (a session that a reset made is committed), and how one fails: `unknown` may
have been carried out, `refused` certainly was not."""


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """Series of one name: the values of their labels, and the first cell of each.

    `bounds` are a histogram's, each inclusive, and `scale` is what a value is divided by. A counter's name is
    without `_total`. A dead worker's counters stay, its gauges go.
    """

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Labels
    series: dict[Labels, int]
    bounds: tuple[int, ...] = ()
    scale: int = 1

    @property
    def width(self) -> int:
        """Cells of one series: a histogram's buckets, the last of them unbounded, and its sum."""
        return _width(self.bounds)

    @property
    def first(self) -> int:
        """The first cell of the first series."""
        return next(iter(self.series.values()))

    @property
    def end(self) -> int:
        """The first cell that is not its own."""
        return self.first + self.width * len(self.series)

    def at(self, *labels: str) -> int:
        """The first cell of a series; raises KeyError for one that there is not."""
        return self.series[labels]

    def cells(self, **labels: str) -> Iterator[tuple[Labels, int]]:
        """Labels and first cell of each series that has these labels."""
        wanted = [(self.labels.index(name), value) for name, value in labels.items()]
        for values, first in self.series.items():
            if all(values[position] == value for position, value in wanted):
                yield values, first

    def total(self, cells: Sequence[int], **labels: str) -> int:
        """The sum of the series that have these labels; of a histogram, how many values there were."""
        counts = self.width - 1 if self.bounds else 1
        return sum(sum(cells[first : first + counts]) for _, first in self.cells(**labels))

    def buckets(self, cells: Sequence[int], **labels: str) -> list[int]:
        """How many values fell into each bucket, the unbounded one last, of the series that have these labels."""
        found = [0] * (self.width - 1)
        for _, first in self.cells(**labels):
            found = [sum(pair) for pair in zip(found, cells[first : first + self.width - 1], strict=True)]
        return found


FAMILIES: list[Family] = []


def _width(bounds: tuple[int, ...]) -> int:
    return len(bounds) + 2 if bounds else 1


def _family(  # noqa: PLR0913 - the columns of the table below
    name: str,
    text: str,
    kind: Literal["counter", "gauge", "histogram"] = "counter",
    labels: Labels = (),
    series: tuple[Labels, ...] = ((),),
    *,
    bounds: tuple[int, ...] = (),
    scale: int = 1,
) -> Family:
    first, width = FAMILIES[-1].end if FAMILIES else 0, _width(bounds)
    numbered = {values: first + width * number for number, values in enumerate(series)}
    family = Family(name, text, kind, labels, numbered, bounds, scale)
    FAMILIES.append(family)
    return family


def _each(*values: str) -> tuple[Labels, ...]:
    return tuple((value,) for value in values)


_SURFACES = tuple((surface, operation) for surface, operations in OPERATIONS.items() for operation in operations)

REQUESTS = _family(
    "metagame_request_duration_seconds",
    "Requests, by how long they took in the worker.",
    "histogram",
    ("surface", "operation"),
    _SURFACES,
    bounds=DURATIONS_NS,
    scale=NANO,
)
ERRORS = _family(
    "metagame_request_errors",
    "Requests that were answered with an error.",
    "counter",
    ("surface", "operation", "code"),
    tuple((*request, code) for request in _SURFACES for code in CODES),
)
REASONS = _family(
    "metagame_errors", "Errors answered, by their reason.", "counter", ("code", "reason"), REASONS_BY_CODE
)
COMMITS = _family(
    "metagame_commits",
    "What became of resets and steps in the store; stale ones are decided again.",
    "counter",
    ("command", "outcome"),
    tuple((str(command), outcome) for command in (Kind.RESET, Kind.STEP) for outcome in OUTCOMES),
)
BATCHES = _family(
    "metagame_redis_batch_commands",
    "Batches sent to Redis, by how many commands they held.",
    "histogram",
    bounds=BATCH_SIZES,
)
ROUND_TRIPS = _family(
    "metagame_redis_round_trip_seconds",
    "Batches answered by Redis, by how long that took.",
    "histogram",
    bounds=DURATIONS_NS,
    scale=NANO,
)
GIVEN_UP = _family("metagame_redis_given_up", "Times that a Redis was found not to work.")
MADE = _family(
    "metagame_sessions_made",
    "Sessions made, by who made them: a socket without a name, a reset, an explicit request, or an agent.",
    "counter",
    ("origin",),
    _each("anonymous", "named", "made", "agent"),
)
REFUSED = _family(
    "metagame_sessions_refused",
    "Sockets and sessions that were not let in.",
    "counter",
    ("reason",),
    _each("capacity", "draining", "unavailable"),
)
ENDED = _family(
    "metagame_sessions_ended",
    "Sessions ended: asked for, by a close frame, with an anonymous socket, or found expired.",
    "counter",
    ("reason",),
    _each("asked", "closed", "left", "expired"),
)
RESUMED = _family("metagame_sessions_resumed", "Sockets opened on a session that existed.")
TAKEN_OVER = _family("metagame_sessions_taken_over", "Those of them that found another socket's hold, alive or dead.")
CPU = _family("metagame_cpu_seconds", "CPU time of the workers.", scale=NANO)
ATTACHED = _family(
    "metagame_attached_sessions", "Sessions with a socket here.", "gauge", ("kind",), _each("named", "anonymous")
)
RESIDENT_BYTES = _family("metagame_resident_bytes", "Memory of the workers.", "gauge")
DRAINING = _family("metagame_draining_workers", "Workers that are leaving.", "gauge")
REDIS_AWAY = _family("metagame_redis_away_workers", "Workers whose last look did not find Redis working.", "gauge")
REDIS_FULL = _family("metagame_redis_full_workers", "Workers whose last look found Redis without room.", "gauge")

CELLS = FAMILIES[-1].end
GAUGES = ATTACHED.first
"""The first gauge's cell: all before it are counters."""
assert [family.kind == "gauge" for family in FAMILIES] == sorted(family.kind == "gauge" for family in FAMILIES)  # noqa: S101 - what GAUGES says
FINGERPRINT = int.from_bytes(blake2b(repr(FAMILIES).encode(), digest_size=8).digest(), "little")
"""Tells this release's layout from another's."""

STEP_ON_SOCKET = REQUESTS.at("websocket", "step")
STEP_COMMITTED = COMMITS.at(Kind.STEP, "committed")
