"""Failures of subscriptions."""

from __future__ import annotations

from typing import NamedTuple

from ._errors import Error


class Failure(NamedTuple):
    """An answer, a broker or a lookup server that failed.

    >>> import libmq
    >>> with libmq.connect("mq:memory", test_clock=True) as client:
    ...     billing = client.subscribe("orders", "billing", msg_timeout=60)
    ...     receipt = client.publish("orders", "one pizza")
    ...     late = billing.next(timeout=1)
    ...     client.advance(61)
    ...     late.finish()
    ...     [failure.message == late.id for failure in billing.failures()]
    [True]
    """

    #: The broker or lookup server.
    broker: str
    #: Id of the message whose answer failed: it is delivered again. None if it is about the server.
    message: str | None
    #: The reason.
    error: Error


Failure.__module__ = "libmq"
