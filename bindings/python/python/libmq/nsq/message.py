"""A message as handlers see it."""

from __future__ import annotations

from typing import Any

from .. import _libmq
from . import event


class Message(event.EventedMixin):
    """A message. ``id``, ``body``: bytes; ``timestamp``: nanoseconds since 1970; ``attempts``: 1 at first.

    Events: ``finish``, ``requeue``, ``touch``, with the message as ``message``.

    >>> import libmq.nsq as nsq
    >>> message = nsq.Message(b"0123456789abcdef", b"one pizza", timestamp=0, attempts=1)
    >>> message.on("finish", lambda message: print("finished", message.body))
    >>> message.finish()
    finished b'one pizza'
    >>> message.has_responded()
    True
    """

    def __init__(self, id: bytes, body: bytes, timestamp: int, attempts: int) -> None:
        super().__init__()
        self.id = id
        self.body = body
        self.timestamp = timestamp
        self.attempts = attempts
        self._async_enabled = False
        self._has_responded = False

    @classmethod
    def _delivered(cls, message: _libmq.Message) -> Message:
        return cls(message.id.encode(), message.body, message.timestamp_ns, message.attempts)

    def enable_async(self) -> None:
        """The handler's return value counts no more: it answers by finish() or requeue(), sooner or later."""
        self._async_enabled = True

    def is_async(self) -> bool:
        """Whether enable_async() was called."""
        return self._async_enabled

    def has_responded(self) -> bool:
        """Whether it was finished or requeued."""
        return self._has_responded

    def finish(self) -> None:
        """The message is done."""
        assert not self._has_responded, "the message is finished or requeued already"
        self._has_responded = True
        self.trigger(event.FINISH, message=self)

    def requeue(self, **kwargs: Any) -> None:
        """The message comes again. ``backoff`` (True): it counts as a failure; ``delay``, seconds, or ``time_ms``;
        else the reader's requeue_delay for each attempt."""
        assert not self._has_responded, "the message is finished or requeued already"
        self._has_responded = True
        self.trigger(event.REQUEUE, message=self, **kwargs)

    def touch(self) -> None:
        """The message's timeout starts anew."""
        assert not self._has_responded, "the message is finished or requeued already"
        self.trigger(event.TOUCH, message=self)
