"""`metagame bench`: steps on any OpenEnv echo server, measured from outside.

Asks the server which it is, opens the sockets, has them step, and shows what came of it, with what the
processes named by the caller used meanwhile.
"""

from __future__ import annotations

import http.client
import json
import math
import resource
import ssl
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from rich.console import Console

from metagame.cli import CHECK_FAILED, DONE, UNREACHABLE, USAGE
from metagame.cli.measured import Measured, Plan, Watched, as_json, show
from metagame.client.transport import Address, parse_base_url
from metagame.errors import InvalidRequest
from metagame.load import Fleet, FleetFailed, Play, Sockets
from metagame.load.usage import cpu_s, in_all, resident_bytes

SCHEMA_VERSION = 1
_SPARE_FILES = 50
_PROBE_TIMEOUT_S = 10.0


class Refused(Exception):
    """Nothing can be measured; the text says why, `code` is the exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def bench(plan: Plan, url: str) -> int:
    """Measure the server at this URL; returns the exit code."""
    try:
        return _bench(plan, url)
    except Refused as refused:
        sys.stderr.write(f"{refused}\n")
        if plan.as_json:
            _print_json({"passed": False, "error": str(refused)})
        return refused.code


def _bench(plan: Plan, url: str) -> int:
    console = Console(quiet=plan.as_json, soft_wrap=not sys.stdout.isatty())
    address = _address(url)
    headers = _headers(plan, address)
    play = _checked_play(plan)
    _check_files(plan)
    before = {pid: _resident_bytes(pid) for pid in plan.pids}
    metagame = _is_metagame(address, headers)
    sockets = _sockets(plan, address, headers, metagame=metagame)
    kind = "kept-alive HTTP connections" if plan.http else "sockets"
    server = "a Metagame server" if metagame else "a server that is not Metagame: stock frames, sessions without names"
    console.print(f"{address.http} is {server}", highlight=False)
    try:
        with Fleet(sockets, processes=plan.processes) as fleet:
            opened = fleet.open()
            if not opened.count:
                first = next(iter(opened.errors.texts), "no answer")
                raise Refused(UNREACHABLE, f"None of {plan.sockets} {kind} opened at {address.http}: {first}")
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
        about = {"url": address.http, "server": "metagame" if metagame else "other", "surface": sockets.surface}
        _print_json({"passed": found.passed, **about, **as_json(plan, sockets, found)})
    else:
        show(console, plan, found)
    return DONE if found.passed else CHECK_FAILED


def _address(url: str) -> Address:
    try:
        address, session = parse_base_url(url)
    except InvalidRequest as wrong:
        raise Refused(USAGE, str(wrong)) from None
    if session is not None:
        raise Refused(USAGE, "The URL names a session; bench makes sessions of its own. Leave /sessions/... out.")
    return address


def _headers(plan: Plan, address: Address) -> tuple[tuple[str, str], ...]:
    found = dict(address.headers)
    for line in plan.headers:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or "\n" in line or "\r" in line:
            raise Refused(USAGE, f'--header is {line!r}; it must be like "Authorization: Bearer ..."')
        found[name.strip()] = value.strip()
    return tuple(found.items())


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


def _is_metagame(address: Address, headers: tuple[tuple[str, str], ...]) -> bool:
    """Ask after a session that is not there: only Metagame knows of sessions, and says so by its error's code."""
    parts = urlsplit(address.http)
    connection = (http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection)(
        parts.hostname or "", parts.port, timeout=_PROBE_TIMEOUT_S
    )
    try:
        connection.request("GET", f"{parts.path}/sessions/{uuid4().hex}/state", headers=dict(headers))
        answer = connection.getresponse()
        body = answer.read(10_000)
    except (OSError, http.client.HTTPException, ssl.SSLError) as lost:
        message = f"No server answers at {address.http}: {lost}. `metagame serve` starts one on port 8000."
        raise Refused(UNREACHABLE, message) from None
    finally:
        connection.close()
    try:
        said = json.loads(body)
    except ValueError:
        return False
    return isinstance(said, dict) and "code" in said


def _sockets(plan: Plan, address: Address, headers: tuple[tuple[str, str], ...], *, metagame: bool) -> Sockets:
    parts = urlsplit(address.http)
    tls = parts.scheme == "https"
    return Sockets(
        addresses=((parts.hostname or "", parts.port or (443 if tls else 80)),),
        count=plan.sockets,
        surface="websocket" if not plan.http else "http" if metagame else "stateless_http",
        named=metagame and not plan.anonymous,
        prefix=parts.path,
        tls=tls,
        headers=headers,
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


def _print_json(fields: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"schema_version": SCHEMA_VERSION, "command": "bench"} | fields) + "\n")
