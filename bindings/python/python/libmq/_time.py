"""Times of messages."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def timestamp(ns: int) -> datetime:
    """The time so many nanoseconds after 1970, in UTC, to the microsecond."""
    return _EPOCH + timedelta(microseconds=ns // 1000)
