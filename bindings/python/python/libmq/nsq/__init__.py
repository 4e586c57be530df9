"""The surface of pynsq on this package: ``import libmq.nsq as nsq`` in a program written for pynsq, and it runs.

>>> import libmq.nsq as nsq
>>> def handler(message):
...     print(message.body)
...     return True
>>> reader = nsq.Reader("topic", "channel", handler, nsqd_tcp_addresses=["127.0.0.1:4150"])
>>> reader.close()

``nsq.run()`` runs it.

Names, options, defaults and errors are pynsq's. It runs on Tornado's loop if the program has imported tornado, else
on asyncio's. What is better here: a Writer publishes right after it was made, in a program without a loop too; a
handler that blocks starves no heartbeat; close() drains. docs/python.md has a table of what differs.
"""

from __future__ import annotations

from .backoff_timer import BackoffTimer
from .errors import ConnectionClosedError, Error, IntegrityError, SendError
from .loop import run
from .message import Message
from .missing import AsyncConn, LegacyReader, SyncConn
from .protocol import (
    FRAME_TYPE_ERROR,
    FRAME_TYPE_MESSAGE,
    FRAME_TYPE_RESPONSE,
    decode_message,
    finish,
    identify,
    mpub,
    nop,
    pub,
    ready,
    requeue,
    subscribe,
    touch,
    unpack_response,
    valid_channel_name,
    valid_topic_name,
)
from .reader import Reader
from .writer import Writer

__all__ = [
    "FRAME_TYPE_ERROR",
    "FRAME_TYPE_MESSAGE",
    "FRAME_TYPE_RESPONSE",
    "AsyncConn",
    "BackoffTimer",
    "ConnectionClosedError",
    "Error",
    "IntegrityError",
    "LegacyReader",
    "Message",
    "Reader",
    "SendError",
    "SyncConn",
    "Writer",
    "decode_message",
    "finish",
    "identify",
    "mpub",
    "nop",
    "pub",
    "ready",
    "requeue",
    "run",
    "subscribe",
    "touch",
    "unpack_response",
    "valid_channel_name",
    "valid_topic_name",
]
