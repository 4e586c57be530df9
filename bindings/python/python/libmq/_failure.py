"""Failures of subscriptions."""

from __future__ import annotations

from typing import NamedTuple

from ._errors import Error


class Failure(NamedTuple):
    """An answer, a broker or a lookup server that failed."""

    #: The broker or lookup server.
    broker: str
    #: Id of the message whose answer failed: it is delivered again. None if it is about the server.
    message: str | None
    #: The reason.
    error: Error


Failure.__module__ = "libmq"
