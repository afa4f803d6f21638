"""Answers of `GET /pool`, for what a real pool does not show on demand."""

from __future__ import annotations

import math
from typing import Any

from playwright.async_api import Page, Route

BEGAN = 1_800_000_000.0


def pool_answer(turn: int, **changed: Any) -> dict[str, Any]:
    """The pool at the turn's moment: busy, with one worker that drains, one that is silent and a replica down."""
    total = 4_210 + 5 * turn
    latency = {"p50": 0.82, "p90": 1.31, "p99": 3.4 + math.sin(turn / 4), "p99.9": 12.25}
    return {
        "schema_version": 1,
        "at": BEGAN + 2 * turn,
        "store": "redis",
        "sessions": {
            "total": total,
            "attached": total - 900,
            "anonymous": 1_208 + 12 * (turn % 7),
            "detached": 900,
            "max": 10_000,
        },
        "steps": {"total": 123_456_789 + 1_600 * turn, "per_s": 812.4 + 90 * math.sin(turn / 6)},
        "requests": {"total": 5_000_000 + turn * 90, "per_s": 44.25},
        "errors": {"SESSION_ERROR": 31 + turn // 10, "VALIDATION_ERROR": 7, "CAPACITY_REACHED": 0},
        "latency_ms": latency,
        "workers": [
            _worker("5f0c1d2e", "ready", 1_700, latency),
            _worker("9ab34cd1", "draining", 412, latency),
            _worker("0011aabb", "silent", 0, dict.fromkeys(latency)) | {"seen_s": 11.0, "redis_round_trip_ms": None},
        ],
        "redis": [
            _node("10.0.0.5:6379", "primary", "up", "always"),
            _node("10.0.0.6:6379", "replica", "down", None),
        ],
    } | changed


def _worker(worker_id: str, state: str, attached: int, latency: dict[str, Any]) -> dict[str, Any]:
    return {
        "worker_id": worker_id,
        "host": "worker-host",
        "pid": 4242,
        "version": "0.1.0",
        "state": state,
        "started_at": BEGAN - 90_061,
        "seen_s": 1.2,
        "attached": attached,
        "anonymous": attached // 4,
        "steps": 1_234_567,
        "steps_per_s": attached / 4,
        "latency_ms": latency,
        "redis_round_trip_ms": {"p50": 0.21, "p99": 0.9},
        "resident_bytes": 71_303_168,
        "cpu": 0.34,
    }


def _node(node: str, role: str, state: str, fsync: str | None) -> dict[str, Any]:
    return {
        "node": node,
        "role": role,
        "state": state,
        "version": "7.0.15",
        "used_memory_bytes": 9_437_184,
        "max_memory_bytes": 1_073_741_824 if role == "primary" else 0,
        "clients": 5,
        "commands_per_s": 1_640.0,
        "aof": fsync is not None,
        "fsync": fsync,
    }


async def answer_with(page: Page, answers: Any) -> None:
    """Have `/pool` answered by `answers(turn)`: a JSON value, or a status and one."""
    turn = 0

    async def answer(route: Route) -> None:
        nonlocal turn
        turn += 1
        said = answers(turn)
        status, body = said if isinstance(said, tuple) else (200, said)
        await route.fulfill(status=status, json=body)

    await page.route("**/pool", answer)
