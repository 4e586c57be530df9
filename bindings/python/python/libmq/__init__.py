"""A message queue: in your program, on your brokers, or on a fleet of them.

>>> import libmq
>>> with libmq.connect("mq:memory") as client:
...     with client.subscribe("orders", "billing") as billing:
...         receipt = client.publish("orders", "one pizza")
...         with billing.next(timeout=1) as message:
...             print(message.text)
one pizza

- connect(): a folder or brokers, by URL; Client, Subscription, Message, Batch, Pending, Receipt
- run(): a worker
- libmq.aio: the same for asyncio; libmq.testing: a broker whose time you move
- Error, and what derives from it
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

# An extension for Pythons with the GIL does not load there, for reasons that name neither.
if "t" in getattr(sys, "abiflags", ""):
    raise ImportError("libmq has no build for free-threaded Pythons yet: use a Python with the GIL")

from . import _libmq
from ._errors import (
    BufferFull,
    Closed,
    Error,
    Forked,
    Invalid,
    Locked,
    Refused,
    Timeout,
    Unknown,
    Unreachable,
    Unsupported,
)
from ._libmq import Batch, Client, Message, Pending, Receipt, Subscription

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._failure import Failure
    from ._settings import ChannelSettings, TopicSettings
    from ._stats import ChannelStats, Stats, TopicStats
    from ._types import Settings
    from ._worker import run

__all__ = [
    "Batch",
    "BufferFull",
    "ChannelSettings",
    "ChannelStats",
    "Client",
    "Closed",
    "Error",
    "Failure",
    "Forked",
    "Invalid",
    "Locked",
    "Message",
    "Pending",
    "Receipt",
    "Refused",
    "Stats",
    "Subscription",
    "Timeout",
    "TopicSettings",
    "TopicStats",
    "Unknown",
    "Unreachable",
    "Unsupported",
    "connect",
    "run",
]

__version__ = _libmq.__version__

#: Modules that are loaded when one of their names is used first.
_LATER = {
    "ChannelSettings": "_settings",
    "ChannelStats": "_stats",
    "Failure": "_failure",
    "Stats": "_stats",
    "TopicSettings": "_settings",
    "TopicStats": "_stats",
    "run": "_worker",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        import importlib

        value = getattr(importlib.import_module("." + _LATER[name], __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def connect(url: str | os.PathLike[str], **settings: Unpack[Settings]) -> Client:
    """Connects to brokers, or opens one in this process.

    ============================= ==================================================================
    URL                           broker
    ============================= ==================================================================
    /path, ./path, mq:PATH        in this process, on that folder
    mq:memory                     in this process, without a folder
    mq://host:4150[,host:4150...] these: mq or nsqd
    mqs://host:4150[,...]         the same over TLS
    mq+lookup://host:4161[,...]   those that lookup servers name
    ============================= ==================================================================

    Settings, which the URL can have as parameters too (``mq://broker:4150?publish_timeout=5s``):
    max_buffered_bytes, publish_timeout, max_reconnect_delay, lookup_poll_interval, client_id,
    auth_secret, extension, retry, compression, heartbeat_interval, user_agent, tls_root_ca_file, tls_cert_file, tls_key_file,
    tls_server_name, tls_insecure, publish_to, durability, memory_limit, test_clock.

    A client that is open when the program ends is closed then, within 5 seconds.

    >>> import libmq
    >>> libmq.connect("localhost:4150")
    Traceback (most recent call last):
        ...
    libmq.Invalid: "localhost:4150" may be a broker or a folder: did you mean mq://localhost:4150 or the folder ./localhost:4150?
    """
    if not isinstance(url, str):
        url = f"mq:{os.fsdecode(url)}"
    client = _libmq.connect(url, **settings)
    from . import _exit

    _exit.close_at_exit(client)
    return client
