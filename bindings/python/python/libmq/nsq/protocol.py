"""Bytes of NSQ's protocol, for programs that speak it by hand."""

from __future__ import annotations

import json
import re
import struct
from typing import Any

from .errors import IntegrityError
from .message import Message

MAGIC_V2 = b"  V2"
FRAME_TYPE_RESPONSE = 0
FRAME_TYPE_ERROR = 1
FRAME_TYPE_MESSAGE = 2

_NAME = re.compile(r"^[.a-zA-Z0-9_-]+(#ephemeral)?$")
_NAME_MAX = 64


def _valid(name: str) -> bool:
    return 0 < len(name) <= _NAME_MAX and _NAME.match(name) is not None


def valid_topic_name(topic: str) -> bool:
    """Whether a topic may have that name.

    >>> import libmq.nsq as nsq
    >>> nsq.valid_topic_name("orders"), nsq.valid_topic_name("no spaces")
    (True, False)
    """
    return _valid(topic)


def valid_channel_name(channel: str) -> bool:
    """Whether a channel may have that name.

    >>> import libmq.nsq as nsq
    >>> nsq.valid_channel_name("billing#ephemeral")
    True
    """
    return _valid(channel)


def unpack_response(data: bytes) -> tuple[int, bytes]:
    """A frame's type and contents.

    >>> import libmq.nsq as nsq
    >>> nsq.unpack_response(b"\\0\\0\\0\\0OK")
    (0, b'OK')
    """
    if len(data) < 4:
        raise IntegrityError(f"a frame has a type of 4 bytes, not {len(data)}")
    return struct.unpack(">l", data[:4])[0], data[4:]


def decode_message(data: bytes) -> Message:
    """The message in a frame's contents.

    >>> import libmq.nsq as nsq
    >>> nsq.decode_message(b"\\0" * 9 + b"\\x01" + b"0123456789abcdef" + b"one pizza").body
    b'one pizza'
    """
    if len(data) < 26:
        raise IntegrityError(f"a message has 26 bytes and a body, not {len(data)}")
    timestamp, attempts = struct.unpack(">qH", data[:10])
    return Message(data[10:26], data[26:], timestamp, attempts)


def _command(name: bytes, *parameters: bytes, body: bytes | None = None) -> bytes:
    line = b" ".join((name, *parameters)) + b"\n"
    return line if body is None else line + struct.pack(">l", len(body)) + body


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def identify(data: dict[str, Any]) -> bytes:
    """IDENTIFY with these settings.

    >>> import libmq.nsq as nsq
    >>> nsq.identify({"user_agent": "x"})
    b'IDENTIFY\\n\\x00\\x00\\x00\\x13{"user_agent": "x"}'
    """
    return _command(b"IDENTIFY", body=json.dumps(data).encode())


def auth(data: str | bytes) -> bytes:
    """AUTH with this secret.

    >>> from libmq.nsq.protocol import auth
    >>> auth("secret")
    b'AUTH\\n\\x00\\x00\\x00\\x06secret'
    """
    return _command(b"AUTH", body=_bytes(data))


def subscribe(topic: str, channel: str) -> bytes:
    """SUB to a channel.

    >>> import libmq.nsq as nsq
    >>> nsq.subscribe("orders", "billing")
    b'SUB orders billing\\n'
    """
    assert valid_topic_name(topic) and valid_channel_name(channel)
    return _command(b"SUB", _bytes(topic), _bytes(channel))


def ready(count: int) -> bytes:
    """RDY with this number of messages.

    >>> import libmq.nsq as nsq
    >>> nsq.ready(10)
    b'RDY 10\\n'
    """
    assert isinstance(count, int) and count >= 0
    return _command(b"RDY", b"%d" % count)


def finish(id: bytes) -> bytes:
    """FIN of a message.

    >>> import libmq.nsq as nsq
    >>> nsq.finish(b"0123456789abcdef")
    b'FIN 0123456789abcdef\\n'
    """
    return _command(b"FIN", _bytes(id))


def requeue(id: bytes, time_ms: int = 0) -> bytes:
    """REQ of a message.

    >>> import libmq.nsq as nsq
    >>> nsq.requeue(b"0123456789abcdef", 1000)
    b'REQ 0123456789abcdef 1000\\n'
    """
    assert isinstance(time_ms, int)
    return _command(b"REQ", _bytes(id), b"%d" % time_ms)


def touch(id: bytes) -> bytes:
    """TOUCH of a message.

    >>> import libmq.nsq as nsq
    >>> nsq.touch(b"0123456789abcdef")
    b'TOUCH 0123456789abcdef\\n'
    """
    return _command(b"TOUCH", _bytes(id))


def nop() -> bytes:
    """NOP.

    >>> import libmq.nsq as nsq
    >>> nsq.nop()
    b'NOP\\n'
    """
    return _command(b"NOP")


def pub(topic: str, data: bytes) -> bytes:
    """PUB of one body.

    >>> import libmq.nsq as nsq
    >>> nsq.pub("orders", b"x")
    b'PUB orders\\n\\x00\\x00\\x00\\x01x'
    """
    return _command(b"PUB", _bytes(topic), body=data)


def dpub(topic: str, delay_ms: int, data: bytes) -> bytes:
    """DPUB of one body.

    >>> import libmq.nsq as nsq
    >>> nsq.protocol.dpub("orders", 1000, b"x")
    b'DPUB orders 1000\\n\\x00\\x00\\x00\\x01x'
    """
    return _command(b"DPUB", _bytes(topic), b"%d" % delay_ms, body=data)


def mpub(topic: str, data: list[bytes]) -> bytes:
    """MPUB of bodies.

    >>> import libmq.nsq as nsq
    >>> nsq.mpub("orders", [b"x"])
    b'MPUB orders\\n\\x00\\x00\\x00\\t\\x00\\x00\\x00\\x01\\x00\\x00\\x00\\x01x'
    """
    assert isinstance(data, (list, set, tuple)), "bodies are a list"
    body = struct.pack(">l", len(data)) + b"".join(struct.pack(">l", len(one)) + one for one in data)
    return _command(b"MPUB", _bytes(topic), body=body)
