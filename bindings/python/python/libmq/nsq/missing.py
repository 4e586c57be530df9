"""What pynsq has and this does not: connections as objects of the program."""

from __future__ import annotations

from typing import Any


class _Missing:
    _instead = ""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        raise NotImplementedError(f"libmq.nsq has no {type(self).__name__}: {self._instead}")


class AsyncConn(_Missing):
    """pynsq's connection."""

    _instead = "use Reader and Writer, or libmq.aio; their connections are the library's own"


class SyncConn(_Missing):
    """pynsq's blocking connection."""

    _instead = "use libmq.connect(), whose calls block"


class LegacyReader(_Missing):
    """pynsq's old reader of several tasks."""

    _instead = "use one Reader for each channel"
