"""`metagame bench`: steps on any OpenEnv echo server, measured from outside.

Asks the server which it is, opens the sockets, has them step, and shows what came of it, with what the
processes named by the caller used meanwhile.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Callable
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from metagame.cli import CHECK_FAILED, DONE, UNREACHABLE, USAGE
from metagame.cli.measured import Measured, Plan, Watched, as_json, show
from metagame.cli.outcome import Refused, print_json
from metagame.cli.report import console_of
from metagame.cli.target import Target, body_of, nobody_answers, refusal, target_of
from metagame.load import Fleet, FleetFailed, Play, Sockets
from metagame.load.usage import cpu_s, in_all, resident_bytes

COMMAND = "bench"
_SPARE_FILES = 50


def bench(plan: Plan, url: str, api_key: str | None = None) -> int:
    """Measure the server at this URL; returns the exit code."""
    console = console_of(as_json=plan.as_json)
    plain = target_of(url, api_key)
    target = Target(plain.address, _headers(plan, plain))
    play = _checked_play(plan)
    _check_files(plan)
    before = {pid: _resident_bytes(pid) for pid in plan.pids}
    metagame = _is_metagame(target)
    sockets = _sockets(plan, target, metagame=metagame)
    kind = "kept-alive HTTP connections" if plan.http else "sockets"
    server = "a Metagame server" if metagame else "a server that is not Metagame: stock frames, sessions without names"
    console.print(f"{target.url} is {server}", highlight=False)
    try:
        with Fleet(sockets, processes=plan.processes) as fleet:
            opened = fleet.open()
            if not opened.count:
                first = next(iter(opened.errors.texts), "no answer")
                raise Refused(UNREACHABLE, f"None of {plan.sockets} {kind} opened at {target.url}: {first}")
            console.print(f"{opened.count} {kind} open after {opened.seconds:.2f} s", highlight=False)
            # One that ends during the run costs its own figures only.
            weights = {pid: (_seen(resident_bytes, pid) - before[pid]) / opened.count for pid in plan.pids}
            began = {pid: _seen(cpu_s, pid) for pid in plan.pids}
            played = fleet.play(play)
            watched = [_used(pid, began[pid], weights[pid]) for pid in plan.pids]
            fleet.close()
    except FleetFailed as failed:
        raise Refused(CHECK_FAILED, str(failed)) from None
    found = Measured(opened, played, watched, plan.rate_per_s)
    if plan.as_json:
        about = {"url": target.url, "server": "metagame" if metagame else "other", "surface": sockets.surface}
        print_json(COMMAND, {"passed": found.passed, **about, **as_json(plan, sockets, found)})
    else:
        show(console, plan, found)
    return DONE if found.passed else CHECK_FAILED


def _headers(plan: Plan, target: Target) -> dict[str, str]:
    found = dict(target.headers)
    for line in plan.headers:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or "\n" in line or "\r" in line:
            raise Refused(USAGE, f'--header is {line!r}; it must be like "Authorization: Bearer ..."')
        found[name.strip()] = value.strip()
    return found


def _checked_play(plan: Plan) -> Play:
    if plan.steps is not None and plan.duration_s is not None:
        raise Refused(USAGE, "--steps and --duration-s both say when to end: give one of them.")
    if plan.rate_per_s is not None and plan.think_s:
        raise Refused(USAGE, "--rate is an open loop, where nobody thinks: --think-time cannot go with it.")
    if plan.http and plan.anonymous:
        raise Refused(USAGE, "--anonymous is for sockets: over HTTP a session has a name.")
    return plan.play()


def _check_files(plan: Plan) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = math.ceil(plan.sockets / plan.processes) + _SPARE_FILES
    if most != resource.RLIM_INFINITY and needed > most:
        message = (
            f"{plan.sockets} sockets in {plan.processes} load processes need {needed} open files each, and {most} are"
            f" allowed. More --processes, or ulimit -n {needed}."
        )
        raise Refused(USAGE, message)


def _is_metagame(target: Target) -> bool:
    """Ask after a session that is not there: only Metagame knows of sessions, and says so by its error's code."""
    path = f"/sessions/{uuid4().hex}/state"
    try:
        answer = httpx.get(target.url + path, **target.httpx_options)
    except httpx.TransportError as lost:
        raise Refused(UNREACHABLE, nobody_answers(target.url, lost)) from None
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise refusal(target, path, answer)
    return "code" in body_of(answer)


def _sockets(plan: Plan, target: Target, *, metagame: bool) -> Sockets:
    parts = urlsplit(target.url)
    tls = parts.scheme == "https"
    return Sockets(
        addresses=((parts.hostname or "", parts.port or (443 if tls else 80)),),
        count=plan.sockets,
        surface="websocket" if not plan.http else "http" if metagame else "stateless_http",
        named=metagame and not plan.anonymous,
        prefix=parts.path,
        tls=tls,
        headers=tuple(target.headers.items()),
        request_ids=metagame if plan.request_ids is None else plan.request_ids,
        sources=plan.sources,
        timeout_s=plan.timeout_s,
    )


def _resident_bytes(pid: int) -> int:
    try:
        return in_all(resident_bytes, pid)
    except ProcessLookupError as gone:
        raise Refused(USAGE, f"--pid {pid}: there is {gone}.") from None


def _used(pid: int, began_s: float, per_socket_bytes: float) -> Watched:
    return Watched(pid, _seen(cpu_s, pid) - began_s, _seen(resident_bytes, pid), per_socket_bytes)


def _seen(measure: Callable[[int], float], pid: int) -> float:
    """What is measured of the process and those it started; no number once it has ended."""
    try:
        return in_all(measure, pid)
    except ProcessLookupError:
        return math.nan
