"""A, B, C and D: what a step costs, and how long one takes, beside the reference server under the same load.

The reference is asked as its own client asks: an anonymous socket and stock frames, or `POST /step`. Over HTTP it makes
an environment for every request and keeps none, so that its step is cheaper than one of an episode could be.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self

from bench.contestants import floor, redis, reference
from bench.rounds import COLUMNS, Contestant, take_turns
from bench.targets import Check, Options, Result, Table, Target, ratio
from metagame.cli import processes
from metagame.load import Sockets

SOCKETS = 64
STEPS, QUICK_STEPS = 200, 100
OURS = 4
"""How many times as many of ours: they are over so much sooner, and a second is short on a shared machine."""
SLICES = 10
"""Of a round, in which all take turns."""
HTTP_STEPS, QUICK_HTTP_STEPS = 80, 40
LONE_STEPS, QUICK_LONE_STEPS = 3_000, 600
OPEN_LOOP_PER_S = 2_000
"""Less than half of what the reference server can, so that waiting comes from its pauses and not from a queue."""
REFERENCE = "OpenEnv 0.10 reference, in memory"
DUTIES = "a step's duties in one function"
FLOOR = "a bare uvloop echo"


class Lineup:
    """Starts servers, each once, and says which contestants they are; `with` stops them."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._started = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failed: object) -> None:
        self._started.close()

    def reference(self, count: int = SOCKETS, *, http: bool = False) -> Contestant:
        """The reference server."""
        server = self._started.enter_context(reference(self._options))
        sockets = Sockets(
            addresses=(("127.0.0.1", server.port),),
            count=count,
            surface="stateless_http" if http else "websocket",
            named=False,
            request_ids=False,
        )
        return Contestant(REFERENCE, sockets, [server.process.pid])

    def metagame(self, name: str, count: int = SOCKETS, *, appendfsync: str | None, http: bool = False) -> Contestant:
        """One worker, on a Redis of its own or, without `appendfsync`, in memory; a request id on every step."""
        folder = self._options.folder
        store = self._started.enter_context(redis(folder, appendfsync=appendfsync)) if appendfsync else None
        worker = self._started.enter_context(
            processes.worker(f"worker-{len(list(folder.iterdir()))}", folder, store.url if store else None)
        )
        sockets = Sockets(addresses=(("127.0.0.1", worker.port),), count=count, surface="http" if http else "websocket")
        return Contestant(name, sockets, [worker.process.pid], store.process.pid if store else None)

    def floor(self, name: str, *, duties: bool = False) -> Contestant:
        """The least that a server on this stack can do."""
        server = self._started.enter_context(floor(self._options.folder, duties=duties))
        return Contestant(name, Sockets(addresses=(("127.0.0.1", server.port),), count=SOCKETS), [server.process.pid])


def stock_frames(name: str, other: Contestant) -> Contestant:
    """The same server, asked without request ids."""
    sockets = Sockets(addresses=other.sockets.addresses, count=other.sockets.count, request_ids=False)
    return Contestant(name, sockets, other.workers, other.redis)


def stored(options: Options) -> Result:
    """A: worker and Redis."""
    with Lineup(options) as lineup:
        theirs = lineup.reference()
        judged = lineup.metagame("Redis, AOF everysec, request_id", appendfsync="everysec")
        contestants = [
            theirs,
            judged,
            stock_frames("Redis, AOF everysec, stock frames", judged),
            lineup.metagame("Redis, AOF always, request_id", appendfsync="always"),
            theirs.paced(OPEN_LOOP_PER_S),
            judged.paced(OPEN_LOOP_PER_S),
        ]
        take_turns(contestants, options, lambda one: _steps(one, options), slices=SLICES)
    check = ratio(
        "CPU per step, to the reference's", judged.all("total_us"), theirs.all("total_us"), limit=0.35, stretch=0.28
    )
    notes = (f"At {OPEN_LOOP_PER_S:,} steps/s the loop is open: latencies count from when a step was planned.",)
    return _result(contestants, check, notes=notes)


def _steps(one: Contestant, options: Options) -> int:
    steps = QUICK_STEPS if options.quick else STEPS
    if one.rate_per_s:
        return steps // 4
    return steps if one.name == REFERENCE else OURS * steps


def in_memory(options: Options) -> Result:
    """B: the memory store; beside it what kernel, loop and libraries cost whoever does the same (bench/floor.py)."""
    with Lineup(options) as lineup:
        theirs = lineup.reference()
        judged = lineup.metagame("in memory, request_id", appendfsync=None)
        floors = [lineup.floor(DUTIES, duties=True), lineup.floor(FLOOR)]
        contestants = [theirs, judged, stock_frames("in memory, stock frames", judged), *floors]
        take_turns(contestants, options, lambda one: _steps(one, options), slices=SLICES)
    check = ratio("CPU per step, to the reference's", judged.all("total_us"), theirs.all("total_us"), limit=0.20)
    return _result(contestants, check)


def lone(options: Options) -> Result:
    """C: one socket, judged as the scheduler places the processes; pinned is printed beside, as much depends on it."""
    with Lineup(options) as lineup:
        theirs = lineup.reference(1)
        judged = lineup.metagame("Redis, AOF everysec, request_id", 1, appendfsync="everysec")
        pinned = [theirs.pinned(), judged.pinned()]
        take_turns(
            [theirs, judged, *pinned],
            options,
            lambda _: QUICK_LONE_STEPS if options.quick else LONE_STEPS,
            slices=SLICES,
        )
    check = ratio(
        "p50 of a step, to the reference's", judged.all("p50_ms"), theirs.all("p50_ms"), limit=1.15, stretch=1.0
    )
    rows = [_row(one, others[0], "p50_ms") for others in ([theirs, judged], pinned) for one in others]
    notes = ("Pinned: the worker on one core, Redis and load on what is left; ratios to the reference pinned as well.",)
    return _result([theirs, judged, *pinned], check, rows, notes)


def over_http(options: Options) -> Result:
    """D: HTTP on kept-alive connections; two round trips to Redis, whose time is counted."""
    with Lineup(options) as lineup:
        theirs = lineup.reference(http=True)
        judged = lineup.metagame("Redis, AOF everysec, /sessions/{id}/step", appendfsync="everysec", http=True)
        contestants = [theirs, judged]
        take_turns(contestants, options, lambda _: QUICK_HTTP_STEPS if options.quick else HTTP_STEPS, slices=SLICES)
    check = ratio("CPU per step, to the reference's", judged.all("total_us"), theirs.all("total_us"), limit=0.6)
    return _result(contestants, check)


def _row(one: Contestant, other: Contestant, figure: str) -> tuple[str, tuple[str, ...]]:
    compared = ratio("", one.all(figure), other.all(figure), limit=0).value
    return one.name, (f"{compared:.2f}", *one.cells())


def _result(
    contestants: list[Contestant],
    check: Check,
    rows: list[tuple[str, tuple[str, ...]]] | None = None,
    notes: tuple[str, ...] = (),
) -> Result:
    """CPU time compared to the first one's, unless there are rows already."""
    rows = rows or [_row(one, contestants[0], "total_us") for one in contestants]
    figures = {"contestants": [one.as_json() for one in contestants]}
    return Result((check,), Table(("ratio", *COLUMNS), tuple(rows)), notes, figures=figures)


TARGETS = (
    Target("A", f"A stored step, {SOCKETS} sockets", stored, seconds=60, quick=True),
    Target("B", f"A step in memory, {SOCKETS} sockets", in_memory, seconds=40, quick=True),
    Target("C", "A stored step by itself, one socket", lone, seconds=30, quick=True),
    Target("D", f"A stored step over HTTP, {SOCKETS} kept-alive connections", over_http, seconds=60, quick=True),
)
