"""One trace from a client's call through balancer and worker to Redis, by real processes and a real collector."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from websockets.sync.client import connect

from metagame.cli import processes
from services.app import create_app
from services.settings import Settings, SettingsError
from tests.balancer.haproxy import balancer
from tests.servers import ROOT, Server, run_server
from tests.traces.collector import CLIENT, INTERNAL, SERVER, Collector, Kept, collector

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture(scope="module")
def kept() -> Iterator[Collector]:
    with collector() as one:
        yield one


@pytest.fixture(scope="module")
def worker(kept: Collector) -> Iterator[Server]:
    with run_server(**kept.environment()) as one:
        yield one


def rollout(kept: Collector, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.traces.rollout", *arguments],
        cwd=ROOT,
        env=dict(os.environ) | kept.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def chain(spans: list[Kept], last: Kept) -> list[tuple[str, int]]:
    """Names and kinds from the root to this span."""
    by_id = {span.id: span for span in spans}
    found = [last]
    while found[0].parent in by_id:
        found.insert(0, by_id[found[0].parent])
    return [(span.name, span.kind) for span in found]


WAYS = {
    "websocket": [("metagame.step", SERVER)],
    "http": [("POST /sessions/{session_id}/step", SERVER), ("metagame.step", INTERNAL)],
}


@pytest.mark.parametrize("transport", WAYS)
def test_a_step_is_one_trace_from_client_to_redis_also_when_its_worker_was_killed(
    tmp_path: Path, kept: Collector, transport: str
) -> None:
    session_id = uuid4().hex
    with ExitStack() as running:
        redis = running.enter_context(processes.redis(tmp_path))
        environment = kept.environment() | {"METAGAME_REDIS_URL": redis.url}
        workers = [running.enter_context(run_server(**environment)) for _ in range(2)]
        ports = [int(one.url.rpartition(":")[2]) for one in workers]
        front = running.enter_context(balancer(tmp_path, ports))
        program = rollout(kept, front.url, session_id, transport, "3")
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            assert program.stdout.readline() == "0\n"
            # The steps before are with the collector: what a killed worker has not sent is lost.
            spans = kept.wait_for(lambda all_: bool(steps_of(all_, session_id)))
            served = steps_of(spans, session_id)[0].instance
            [worker] = [one for one in workers if served.endswith(f"-{one.process.pid}")]
            worker.kill()
            program.stdin.write("\n\n\n")
            program.stdin.flush()
            assert program.wait(30) == 0
        finally:
            program.kill()
            program.communicate()
        spans = kept.wait_for(lambda all_: len(steps_of(all_, session_id)) == 3)
    [trace_id] = {span.trace for span in spans if ours(span, session_id)}
    spans = [span for span in spans if span.trace == trace_id]
    assert len({span.instance for span in steps_of(spans, session_id)}) == 2
    root = [("rollout", INTERNAL), ("metagame.step", CLIENT)]
    commits = [span for span in spans if span.name == "store.commit"]
    assert [chain(spans, span) for span in commits] == [[*root, *WAYS[transport], ("store.commit", CLIENT)]] * 3
    assert {(span.attributes["db.system.name"], span.attributes["metagame.outcome"]) for span in commits} == {
        ("redis", "committed")
    }
    assert {"metagame.reset", "metagame.state"} <= {span.name for span in spans if span.kind == SERVER} | {
        span.name for span in spans if span.kind == INTERNAL
    }
    for secret in (session_id, "secret words"):
        assert secret.encode() not in kept.raw


def ours(span: Kept, session_id: str) -> bool:
    from services.records import session_hash  # noqa: PLC0415 - read where it is compared

    return span.attributes.get("metagame.session") == session_hash(session_id)


def steps_of(spans: list[Kept], session_id: str) -> list[Kept]:
    return [span for span in spans if span.name == "metagame.step" and ours(span, session_id)]


def test_a_trace_begins_here_where_a_client_brings_none(kept: Collector, worker: Server) -> None:
    session_id = uuid4().hex
    with connect(f"{worker.ws_url}/sessions/{session_id}/ws", proxy=None) as socket:
        socket.send('{"type": "reset"}')
        socket.recv()
        socket.send('{"type": "step", "data": {"message": "abc"}}')
        socket.recv()
    spans = kept.wait_for(lambda all_: bool(steps_of(all_, session_id)))
    [step] = steps_of(spans, session_id)
    assert (step.kind, step.parent, step.attributes["metagame.reward"]) == (SERVER, "", 0.3)
    [commit] = [span for span in spans if span.parent == step.id]
    assert (commit.name, commit.attributes["db.system.name"]) == ("store.commit", "memory")


def test_a_refusal_is_in_the_trace_by_its_code(kept: Collector, worker: Server) -> None:
    session_id = uuid4().hex
    httpx.post(
        f"{worker.url}/sessions/{session_id}/step",
        json={"action": {"message": "abc"}},
        headers={"traceparent": TRACEPARENT},
        trust_env=False,
    )
    spans = kept.wait_for(lambda all_: bool(steps_of(all_, session_id)))
    [step] = steps_of(spans, session_id)
    assert (step.trace, step.failed, step.attributes["error.type"]) == (TRACE, True, "SESSION_ERROR")
    [request] = kept.wait_for(lambda all_: any(span.id == step.parent for span in all_)) and [
        span for span in kept.spans if span.id == step.parent
    ]
    assert (request.parent, request.attributes["http.response.status_code"]) == (PARENT, 409)


def test_an_agents_call_is_traced_too(kept: Collector, worker: Server) -> None:
    session_id = uuid4().hex
    call = {"name": "echo_message", "arguments": {"message": "abc"}}
    httpx.post(
        f"{worker.url}/sessions/{session_id}/mcp",
        json={"jsonrpc": "2.0", "id": 1, "method": "openenv/session/create", "params": {"session_id": session_id}},
        trust_env=False,
    )
    httpx.post(f"{worker.url}/sessions", json={"session_id": session_id}, trust_env=False)
    httpx.post(
        f"{worker.url}/sessions/{session_id}/mcp",
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call},
        trust_env=False,
    )
    spans = kept.wait_for(lambda all_: any(span.name == "metagame.call" and ours(span, session_id) for span in all_))
    [one] = [span for span in spans if span.name == "metagame.call" and ours(span, session_id)]
    assert one.attributes["metagame.tool"] == "echo_message"


def test_health_is_nobodys_trace(kept: Collector, worker: Server) -> None:
    session_id = uuid4().hex
    for path in ("/health", "/ready", f"/sessions/{session_id}/state"):
        httpx.get(worker.url + path, trust_env=False)
    kept.wait_for(lambda all_: any(ours(span, session_id) for span in all_))
    assert not [span for span in kept.spans if span.attributes.get("http.route") in {"/health", "/ready"}]


@pytest.mark.parametrize("traces", ["off", "console"])
@pytest.mark.parametrize("context", [TRACEPARENT, "nonsense", "", None])
def test_a_frame_may_name_its_trace_whether_anybody_traces_or_not(traces: str, context: str | None) -> None:
    with run_server(METAGAME_TRACES=traces) as server, connect(f"{server.ws_url}/ws", proxy=None) as socket:
        for frame in ({"type": "reset"}, {"type": "step", "data": {"message": "abc"}}, {"type": "state"}):
            socket.send(json.dumps(frame | {"traceparent": context}))
            assert json.loads(socket.recv())["type"] in {"observation", "state"}
        socket.send('{"type": "step", "data": {"message": "abc"}, "traceparent": 5}')
        refused = json.loads(socket.recv())
        assert refused["data"]["code"] == "VALIDATION_ERROR"
        assert refused["data"]["errors"][0]["loc"] == ["traceparent"]


def test_spans_are_shown_on_the_console_where_that_is_asked_for() -> None:
    with run_server(METAGAME_TRACES="console", OTEL_BSP_SCHEDULE_DELAY="50") as server:
        httpx.post(f"{server.url}/reset", trust_env=False)
        server.terminate()
        spans = [json.loads(line) for line in server.log.splitlines() if line.startswith('{"name"')]
        assert {"metagame.reset", "POST /reset"} <= {span["name"] for span in spans}


def test_off_loads_nothing_that_collects_or_sends() -> None:
    """FastAPI loads the API's names where they are installed; that is all."""
    program = "import sys, services.app as a; a.create_app(a.Settings()); print('opentelemetry.sdk' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "opentelemetry.sdk" else object())
    with pytest.raises(SettingsError, match=r"METAGAME_TRACES is 'otlp'.*openenv-metagame\[otel\]"):
        create_app(Settings(traces="otlp"))
