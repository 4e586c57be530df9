"""OpenTelemetry's context in the headers of messages. It needs the package ``opentelemetry-api``, which nothing
else of libmq imports.

>>> import libmq, libmq.telemetry
>>> from opentelemetry import trace
>>> parent = trace.SpanContext(trace_id=0xabc, span_id=0xdef, is_remote=False, trace_flags=trace.TraceFlags(1))
>>> with libmq.connect("mq:memory") as client:
...     billing = client.subscribe("orders", "billing")
...     with trace.use_span(trace.NonRecordingSpan(parent)):
...         receipt = client.publish("orders", "one pizza", headers=libmq.telemetry.inject())
...     with billing.next(timeout=1) as message, libmq.telemetry.attached(message):
...         hex(trace.get_current_span().get_span_context().trace_id)
'0xabc'

Handlers of libmq.run() are called so by themselves, in programs that use OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from ._libmq import Message

try:
    from opentelemetry import propagate
    from opentelemetry.context import Context, attach, detach
except ImportError as _error:
    raise ImportError("libmq.telemetry needs OpenTelemetry: pip install opentelemetry-api") from _error

if TYPE_CHECKING:
    from ._types import Bytes, Headers

__all__ = ["attached", "extract", "inject"]


def inject(headers: Headers | None = None, context: Context | None = None) -> dict[str, Bytes]:
    """The headers, and those that carry the context: the current one if none is given.

    >>> import libmq.telemetry
    >>> libmq.telemetry.inject({"colour": "red"})
    {'colour': 'red'}
    """
    carrier = cast("dict[str, Bytes]", dict(headers or {}))
    propagate.inject(carrier, context)
    return carrier


def extract(message: Message, context: Context | None = None) -> Context:
    """The context in a message's headers, over the one given, or the current one.

    >>> import libmq, libmq.telemetry
    >>> from opentelemetry import baggage
    >>> with libmq.connect("mq:memory") as client:
    ...     receipt = client.publish("orders", "one pizza", headers={"baggage": "shop=12"})
    ...     message = client.subscribe("orders", "billing").next(timeout=1)
    ...     dict(baggage.get_all(libmq.telemetry.extract(message)))
    {'shop': '12'}
    """
    return propagate.extract(message.headers, context)


@contextmanager
def attached(message: Message) -> Generator[Context, None, None]:
    """Makes the context in a message's headers the current one: spans that begin meanwhile are children of the
    publisher's.

    >>> import libmq, libmq.telemetry
    >>> from opentelemetry import baggage
    >>> with libmq.connect("mq:memory") as client:
    ...     receipt = client.publish("orders", "one pizza", headers={"baggage": "shop=12"})
    ...     message = client.subscribe("orders", "billing").next(timeout=1)
    ...     with libmq.telemetry.attached(message):
    ...         baggage.get_baggage("shop")
    '12'
    """
    context = extract(message)
    token = attach(context)
    try:
        yield context
    finally:
        detach(token)
