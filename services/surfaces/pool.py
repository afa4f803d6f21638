"""`GET /pool`: the whole pool in one answer, from whichever worker is asked. For operators.

Each worker tells the store about itself (upkeep.py), and whoever is asked adds up what is there, with itself
as it is now. Where Redis gives no answer in time, what this worker knows is told all the same: itself, and
which Redis servers are down. What the others do and how many sessions there are is null then, not zero.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from metagame.core import strictjson

from ..engine import Engine
from ..store.base import Node, Spoken, StoreUnavailable
from ..vitals import LOOK, Pulse, Vitals, percentiles, read
from . import describe
from .operators import check_operator
from .problems import JSON

SCHEMA_VERSION = 1
PATIENCE_S = 1.0
"""How long the store may take; its servers have their own deadline, as long."""
SILENT_S = 6.0
"""Three turns of telling."""

Told = tuple[int, list[Spoken]]
"""How many sessions there are, and what the workers said."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A worker and its last word, so many seconds old."""

    worker_id: str
    age_s: float
    vitals: Vitals

    @property
    def silent(self) -> bool:
        """Whether it should have been heard of since: it is dead or stopped, or has lost Redis."""
        return self.age_s > SILENT_S

    @property
    def state(self) -> str:
        """In one word."""
        if self.silent:
            return "silent"
        return "draining" if self.vitals.draining else "ready"


class PoolSurface:
    """The handler."""

    def __init__(self, engine: Engine, pulse: Pulse, *, max_sessions: int, store_name: str) -> None:
        self._engine = engine
        self._pulse = pulse
        self._max_sessions = max_sessions
        self._store_name = store_name
        self._asking: asyncio.Task[tuple[Told | None, list[Node]]] | None = None

    def install(self, app: FastAPI) -> None:
        """Add the route."""
        router = APIRouter(tags=["operations"])
        router.get("/pool", **describe.pool())(self.pool)
        app.include_router(router)

    async def pool(self, request: Request) -> Response:
        """The pool as it is now."""
        with self._engine.meter.timed(*LOOK):
            check_operator(request.scope)
            answer = await self.answer()
        return Response(strictjson.dumps(answer), 200, {"cache-control": "no-store"}, JSON)

    async def answer(self) -> dict[str, Any]:
        """The answer's body."""
        if self._asking is None or self._asking.done():  # else whoever comes now shares what is on its way
            self._asking = asyncio.create_task(self._ask())
        told, nodes = await asyncio.shield(self._asking)
        total, spoken = told or (None, [])
        own = Seen(self._pulse.worker_id, 0.0, self._pulse.vitals())
        others = [Seen(one.worker, one.age_ms / 1000, read(one.word)) for one in spoken if one.worker != own.worker_id]
        workers = sorted([own, *others], key=lambda seen: (seen.vitals.started_at or 0.0, seen.worker_id))
        return {
            "schema_version": SCHEMA_VERSION,
            "at": round(time.time(), 3),
            "store": self._store_name,
            "sessions": _sessions(workers, total, self._max_sessions),
            **_totals(workers),
            "workers": [_worker(seen) for seen in workers],
            "redis": [_node(node) for node in nodes],
        }

    async def _ask(self) -> tuple[Told | None, list[Node]]:
        return await asyncio.gather(self._told(), self._engine.store.nodes())

    async def _told(self) -> Told | None:
        """What the store tells; None where it gives no answer in time."""
        store = self._engine.store
        try:
            async with asyncio.timeout(PATIENCE_S):
                total, spoken = await asyncio.gather(store.count(), store.roll())
        except (StoreUnavailable, TimeoutError):
            return None
        return total, spoken


def _sessions(workers: list[Seen], total: int | None, most: int) -> dict[str, int | None]:
    """A silent worker's sockets are gone, or soon will be."""
    heard = [seen.vitals for seen in workers if not seen.silent]
    attached = sum(vitals.attached for vitals in heard)
    return {
        "total": total,
        "attached": attached,
        "anonymous": sum(vitals.anonymous for vitals in heard),
        "detached": None if total is None else max(0, total - attached),
        "max": most,
    }


def _totals(workers: list[Seen]) -> dict[str, Any]:
    """Counts of all that are listed; rates and latencies of those that are heard."""
    every = [seen.vitals for seen in workers]
    heard = [seen.vitals for seen in workers if not seen.silent]
    errors: Counter[str] = Counter()
    for vitals in every:
        errors.update(vitals.errors)
    return {
        "steps": {
            "total": sum(vitals.steps for vitals in every),
            "per_s": round(sum(vitals.steps_per_s for vitals in heard), 1),
        },
        "requests": {
            "total": sum(vitals.requests for vitals in every),
            "per_s": round(sum(vitals.requests_per_s for vitals in heard), 1),
        },
        "errors": dict(sorted(errors.items())),
        "latency_ms": percentiles(chain.from_iterable(vitals.step_ms for vitals in heard)),
    }


def _worker(seen: Seen) -> dict[str, Any]:
    vitals = seen.vitals
    round_trip = percentiles(vitals.redis_ms, ("p50", "p99"))
    return {
        "worker_id": seen.worker_id,
        "host": vitals.host,
        "pid": vitals.pid,
        "version": vitals.version,
        "state": seen.state,
        "started_at": vitals.started_at,
        "seen_s": round(seen.age_s, 1),
        "attached": vitals.attached,
        "anonymous": vitals.anonymous,
        "steps": vitals.steps,
        "steps_per_s": 0.0 if seen.silent else vitals.steps_per_s,
        "latency_ms": percentiles(vitals.step_ms),
        "redis_round_trip_ms": None if round_trip["p50"] is None else round_trip,
        "resident_bytes": vitals.resident_bytes,
        "cpu": 0.0 if seen.silent else vitals.cpu,
    }


def _node(node: Node) -> dict[str, Any]:
    told = asdict(node)
    return {"node": told.pop("name"), "role": told.pop("role"), "state": "up" if told.pop("up") else "down", **told}
