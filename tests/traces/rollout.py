"""A trainer's program that traces: one episode inside a span of its own.

python -m tests.traces.rollout URL SESSION_ID TRANSPORT STEPS
"""

from __future__ import annotations

import sys

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from metagame import MetaGameAction, MetaGameEnv


def main(url: str, session_id: str, transport: str, steps: int) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    with (
        trace.get_tracer("trainer").start_as_current_span("rollout"),
        MetaGameEnv(url, session_id=session_id, transport=transport) as env,  # type: ignore[arg-type]  # a word of the test
    ):
        env.reset()
        for number in range(steps):
            env.step(MetaGameAction(message="secret words"))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
            sys.stdin.readline()
        env.state()
    provider.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
