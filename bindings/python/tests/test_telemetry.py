"""OpenTelemetry's context in headers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import libmq
import libmq.telemetry
import pytest
from opentelemetry import baggage, context, trace

Program = Callable[..., "subprocess.CompletedProcess[str]"]

PARENT = trace.SpanContext(
    trace_id=0x4BF92F3577B34DA6A3CE929D0E0E4736,
    span_id=0x00F067AA0BA902B7,
    is_remote=False,
    trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
)


def current() -> trace.SpanContext:
    return trace.get_current_span().get_span_context()


def test_a_context_goes_with_a_message_to_its_consumer() -> None:
    with libmq.connect("mq:memory") as client, client.subscribe("t", "c") as subscription:
        with trace.use_span(trace.NonRecordingSpan(PARENT)):
            token = context.attach(baggage.set_baggage("shop", "12"))
            given = {"colour": "red"}
            headers = libmq.telemetry.inject(given)
            client.publish("t", "x", headers=headers)
            context.detach(token)
        assert given == {"colour": "red"}, "what the caller gave is left as it was"
        message = subscription.next(timeout=30)
        assert message is not None
        assert message.headers == {
            "colour": "red",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "baggage": "shop=12",
        }
        assert not current().is_valid
        with pytest.raises(KeyError), libmq.telemetry.attached(message):
            assert (current().trace_id, current().span_id) == (PARENT.trace_id, PARENT.span_id)
            assert current().is_remote and baggage.get_baggage("shop") == "12"
            raise KeyError
        assert not current().is_valid, "it ends with the block"
        message.finish()
        client.publish("t", "y", headers=libmq.telemetry.inject([("colour", "red")]))
        plain = subscription.next(timeout=30)
        assert plain is not None and plain.headers == {"colour": "red"}
        assert trace.get_current_span(libmq.telemetry.extract(plain)) is trace.INVALID_SPAN
        plain.finish()


@pytest.mark.parametrize("kind", ["", "async "])
@pytest.mark.parametrize("uses", [True, False])
def test_a_worker_has_the_context_of_each_message_where_the_program_uses_it(
    program: Program, kind: str, uses: bool
) -> None:
    result = program(
        f"""
import os, signal, sys
import libmq
{"from opentelemetry import trace, propagate" if uses else ""}

with libmq.connect("./data") as client:
    client.publish("t", "x", headers={{"traceparent": "00-{PARENT.trace_id:032x}-{PARENT.span_id:016x}-01"}})
    client.publish("t", "y")

{kind}def handle(message):
    if {uses}:
        print(message.text, format(trace.get_current_span().get_span_context().trace_id, "x"))
    else:
        assert not any(name.startswith("opentelemetry") for name in sys.modules)
        print(message.text)
    if message.text == "y":
        os.kill(os.getpid(), signal.SIGTERM)

libmq.run(handle, topic="t", channel="c", url="./data")
"""
    )
    wanted = f"x {PARENT.trace_id:x}\ny 0\n" if uses else "x\ny\n"
    assert (result.stdout, result.stderr) == (wanted, "")


def test_without_opentelemetry_it_says_what_is_missing(program: Program) -> None:
    program(
        """
import sys
sys.modules["opentelemetry"] = None
import libmq
try:
    import libmq.telemetry
except ImportError as error:
    assert "pip install opentelemetry-api" in str(error), error
else:
    raise AssertionError
"""
    )
