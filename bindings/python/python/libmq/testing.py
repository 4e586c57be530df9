"""A broker for tests: in memory, gone with its client, and with a time that stands still until the test moves it.

>>> import libmq.testing
>>> with libmq.testing.broker() as client:
...     billing = client.subscribe("orders", "billing", msg_timeout=60)
...     receipt = client.publish("orders", "one pizza", delay=3600)
...     print(billing.next(timeout=0))
...     client.advance(3600)
...     print(billing.next(timeout=0).text)
None
one pizza

With pytest there is a fixture besides, without an import::

    def test_an_order_is_billed(mq):
        mq.publish("orders", "one pizza")
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from . import connect
from ._libmq import Client

__all__ = ["broker"]


@contextmanager
def broker() -> Generator[Client, None, None]:
    """A client of a new broker in memory. ``client.advance(seconds)`` moves its time: delays and timeouts that
    are over by then are over when it returns.

    >>> import libmq.testing
    >>> with libmq.testing.broker() as client:
    ...     receipt = client.publish("orders", "one pizza", delay=60)
    ...     client.advance(60)
    ...     client.subscribe("orders", "billing").next(timeout=0).text
    'one pizza'
    """
    client = connect("mq:memory", test_clock=True)
    try:
        yield client
    finally:
        client.close(timeout=5)
