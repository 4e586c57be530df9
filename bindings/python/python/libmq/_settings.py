"""Settings of channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._types import Seconds


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


ChannelSettings.__module__ = "libmq"
