"""The exceptions. Each has the standard class among its bases that programs catch in its place."""

from __future__ import annotations


class Error(Exception):
    """A call failed. ``retry``: whether the same call can succeed later. ``broker``: whose words these are.

    >>> import libmq
    >>> try:
    ...     libmq.connect("mq:memory", publish_timeout=0)
    ... except libmq.Error as error:
    ...     type(error).__name__, error.retry
    ('Invalid', False)
    """

    retry: bool = False
    broker: str | None = None


class Invalid(Error, ValueError):
    """A URL, setting, name or message is not valid. Nothing was done."""


class Locked(Error, OSError):
    """The data folder is open elsewhere, or a second time in this process."""


class BufferFull(Error):
    """The client's buffer has no room for the message: see max_buffered_bytes."""


class Timeout(Error, TimeoutError):
    """The time of a wait is over. A publish that fails so was never sent."""


class Closed(Error):
    """The client or subscription is closed. A publish that fails so was never sent."""


class Forked(Error):
    """The handle comes from the parent process: a child connects anew."""


class Unsupported(Error, NotImplementedError):
    """The broker can't do what was asked for."""


class Refused(Error):
    """The broker refused: nothing was stored."""


class Unknown(Error, ConnectionError):
    """A publish was sent and not answered: it may be stored or not."""


class Unreachable(Error, ConnectionError):
    """A broker or lookup server can't be reached, or ended the connection."""


for _class in (Error, Invalid, Locked, BufferFull, Timeout, Closed, Forked, Unsupported, Refused, Unknown, Unreachable):
    _class.__module__ = "libmq"
