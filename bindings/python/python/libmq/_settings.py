"""Settings of topics and channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ._types import Seconds


@dataclass(slots=True)
class TopicSettings:
    """Settings of a topic: what a receipt stands for, what may wait, and how long ids are remembered.

    >>> import libmq
    >>> libmq.TopicSettings(durability="sync", max_messages=1000).overflow
    'refuse'
    """

    #: What survives once a message is stored: ``memory`` a clean stop, ``flush`` a crash of the process, ``sync`` one of
    #: the machine. None leaves it as it is.
    durability: Literal["memory", "flush", "sync"] | None = None
    #: Messages that may wait in each channel. 0 is any number.
    max_messages: int = 0
    #: Bytes of messages that may wait in each channel. 0 is any number.
    max_bytes: int = 0
    #: Greatest age of a message that waits: an older one is dropped. 0 is any age.
    max_age: Seconds = 0.0
    #: At the limit of messages or bytes: ``refuse`` publishes, or ``drop-oldest`` messages.
    overflow: Literal["refuse", "drop-oldest"] = "refuse"
    #: Time for which the id of a message is remembered, 7 days at most. 0 is not at all, None as the broker has it.
    dedup_window: Seconds | None = None
    #: The most ids that are remembered. None is as the broker has it.
    dedup_max_ids: int | None = None


@dataclass(slots=True)
class ChannelSettings:
    """Settings of a channel: dead letters, and messages whose consumer was lost.

    >>> import libmq
    >>> libmq.ChannelSettings(max_attempts=5, dead_letter_topic="orders.dead")
    ChannelSettings(max_attempts=5, dead_letter_topic='orders.dead', redelivery_delay=1.0)
    """

    #: Deliveries of one message at most: one that comes back unfinished from so many is a dead letter. 0 is no limit.
    max_attempts: int = 0
    #: The topic that gets dead letters, which is created if it is new: present exactly where there is a limit.
    dead_letter_topic: str | None = None
    #: Time for which a message waits that was delivered more than once when its consumer was lost: so much for each
    #: delivery. 0 is no wait.
    redelivery_delay: Seconds = 1.0


for _class in (TopicSettings, ChannelSettings):
    _class.__module__ = "libmq"
