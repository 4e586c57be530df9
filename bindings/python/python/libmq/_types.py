"""Types of arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import timedelta
from os import PathLike
from typing import Literal, TypeAlias, TypedDict, Union

#: Bytes of a body, header or id.
Bytes: TypeAlias = Union[bytes, bytearray, memoryview, str]
#: Headers by name, or in pairs.
Headers: TypeAlias = Union[Mapping[str, Bytes], Iterable[tuple[str, Bytes]]]
#: A duration.
Seconds: TypeAlias = Union[float, timedelta]
#: Many bodies. A dict is none, though it is an iterable: which of its halves would be the body?
Bodies: TypeAlias = Union[Sequence[Bytes], Set[Bytes], Iterator[Bytes]]


class Settings(TypedDict, total=False):
    """Settings of libmq.connect()."""

    max_buffered_bytes: int
    publish_timeout: Seconds
    max_reconnect_delay: Seconds
    lookup_poll_interval: Seconds
    heartbeat_interval: Seconds
    client_id: str
    user_agent: str
    auth_secret: str
    #: ``none``, ``snappy``, ``deflate``, or ``deflate-1`` to ``deflate-9``.
    compression: str
    extension: bool
    publish_to: Literal["one", "all"]
    retry: Literal["by_id", "at_least_once"]
    tls_root_ca_file: str | PathLike[str]
    tls_cert_file: str | PathLike[str]
    tls_key_file: str | PathLike[str]
    tls_server_name: str
    tls_insecure: bool
    durability: Literal["memory", "flush", "sync"]
    #: Bytes of messages that a broker in this process keeps in memory.
    memory_limit: int
    test_clock: bool
