"""H: steps a second through one worker and two, and what a step costs at 1, 64 and 1,024 sockets.

Workers are processes of `metagame serve`, a port each, so that sockets are spread evenly; Redis and the load
processes have the cores that the workers leave, or share them all where there are no more.
"""

from __future__ import annotations

from contextlib import ExitStack

from bench.contestants import everysec_redis, floor, reference
from bench.rounds import COLUMNS, Contestant, take_turns
from bench.targets import Check, Options, Result, Series, Table, Target, ratio
from metagame.cli import processes
from metagame.load import Sockets

COUNTS = (1, 64, 1_024)
FLAT_FROM = 64
FLAT_LIMIT = 1.25
STEPS, QUICK_STEPS = 41_000, 10_000
"""Of all sockets of a round together; a lone one takes a quarter."""
SLICES = 8
"""Of a round, in which all take turns."""
WORKERS = (1, 2)
SOCKETS = 64


def measure(options: Options) -> Result:
    """Both, round by round."""
    with ExitStack() as started:
        server = started.enter_context(reference(options))
        store = started.enter_context(everysec_redis(options.folder))
        workers = [
            started.enter_context(processes.worker(f"worker-{number}", options.folder, store.url)) for number in WORKERS
        ]
        pids = [worker.process.pid for worker in workers]
        ports = [worker.port for worker in workers]
        ours = Contestant(
            "Metagame", Sockets(addresses=(("127.0.0.1", ports[0]),), count=1), pids[:1], store.process.pid
        )
        theirs = Contestant(
            "OpenEnv 0.10 reference",
            Sockets(addresses=(("127.0.0.1", server.port),), count=1, named=False, request_ids=False),
            [server.process.pid],
        )
        bare = started.enter_context(floor(options.folder))
        least = Contestant(
            "a bare uvloop echo", Sockets(addresses=(("127.0.0.1", bare.port),), count=1), [bare.process.pid]
        )
        by_count = [one.with_sockets(count) for count in COUNTS for one in (ours, theirs, least)]
        take_turns(by_count, options, lambda one: _steps(one, options), slices=SLICES)
        through = [_through(number, ports, pids, store.process.pid) for number in WORKERS]
        options.say("now through one worker and two")
        take_turns(through, options, lambda one: _steps(one, options))
    return _result(by_count, through)


def _steps(one: Contestant, options: Options) -> int:
    steps = QUICK_STEPS if options.quick else STEPS
    return max(SLICES, steps // max(4, one.sockets.count))


def _through(number: int, ports: list[int], pids: list[int], redis: int) -> Contestant:
    sockets = Sockets(addresses=tuple(("127.0.0.1", port) for port in ports[:number]), count=SOCKETS)
    return Contestant(f"through {number} worker{'s' * (number > 1)}", sockets, pids[:number], redis).pinned()


def _result(by_count: list[Contestant], through: list[Contestant]) -> Result:
    ours, theirs, least = by_count[::3], by_count[1::3], by_count[2::3]
    check = _flat(ours)
    rows = [(f"{one.name}, sockets: {one.sockets.count:,}", one.cells()) for one in by_count]
    rows += [(f"{one.name}, sockets: {one.sockets.count}", one.cells()) for one in through]
    more = ratio("", through[1].all("steps_per_s"), through[0].all("steps_per_s"), limit=0).value
    return Result(
        (check,),
        Table(COLUMNS, tuple(rows)),
        notes=(
            f"Two workers take {more:.2f} times the steps/s of one, with Redis and load on the same machine.",
            f"That ratio of the reference: {_flat(theirs).value:.2f}.",
            f"Of a bare uvloop echo, which only counts and sends back: {_flat(least).value:.2f}.",
        ),
        series=tuple(
            Series(
                "latency-against-sockets",
                f"{name}, {figure.removesuffix('_ms')}",
                "sockets",
                "ms",
                tuple((one.sockets.count, one.median(figure)) for one in group),
            )
            for name, group in (("Metagame", ours), ("OpenEnv 0.10 reference", theirs))
            for figure in ("p50_ms", "p99_ms")
        ),
        figures={"contestants": [one.as_json() for one in [*by_count, *through]]},
    )


def _flat(group: list[Contestant]) -> Check:
    """What a step costs where it is dearest, to where it is cheapest, of those that have many sockets."""
    flat = [one.all("total_us") for one in group if one.sockets.count >= FLAT_FROM]
    highest = [max(of_one) for of_one in zip(*flat, strict=True)]
    lowest = [min(of_one) for of_one in zip(*flat, strict=True)]
    name = f"CPU per step, dearest to cheapest from {FLAT_FROM} sockets up"
    return ratio(name, highest, lowest, limit=FLAT_LIMIT)


TARGETS = (Target("H", "Steps/s, and cost at 1, 64 and 1,024 sockets", measure, seconds=90, quick=True),)
