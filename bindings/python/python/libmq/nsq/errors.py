"""Errors, named as pynsq's."""

from __future__ import annotations


class Error(Exception):
    """What went wrong with a connection or publish."""


class SendError(Error):
    """A publish that was not stored. ``error`` is the reason."""

    def __init__(self, msg: object, error: BaseException | None = None) -> None:
        super().__init__(msg, error)
        self.msg = msg
        self.error = error

    def __str__(self) -> str:
        return str(self.msg) if self.error is None else f"{self.msg}: {self.error}"


class ConnectionClosedError(Error):
    """The connection ended before the answer: the message may be stored or not."""


class IntegrityError(Error):
    """Bytes that are not NSQ's protocol."""
