"""Numbers of a broker in this process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """Numbers of a channel.

    >>> import libmq
    >>> with libmq.connect("mq:memory") as client:
    ...     receipt = client.publish("orders", "one pizza")
    ...     client.create_channel("orders", "billing")
    ...     client.stats().topics[0].channels[0].depth
    1
    """

    name: str
    #: Messages that wait for a subscriber.
    depth: int
    #: Messages at subscribers, without an answer.
    in_flight: int
    #: Messages that wait for their time.
    deferred: int
    #: Messages that arrived in the channel.
    message_count: int
    #: Messages that subscribers finished.
    finished: int
    #: Requeues.
    requeued: int
    #: Timeouts of messages in flight.
    timed_out: int
    #: Messages moved to the dead letter topic.
    dead_lettered: int
    #: Subscribers.
    subscribers: int
    #: Whether delivery is stopped.
    paused: bool


@dataclass(frozen=True, slots=True)
class TopicStats:
    """Numbers of a topic.

    >>> import libmq
    >>> with libmq.connect("mq:memory") as client:
    ...     receipt = client.publish("orders", "one pizza")
    ...     client.create_channel("orders", "billing")
    ...     client.stats().topics[0].message_count
    1
    """

    name: str
    #: Messages that wait for a first channel, or for the topic to be unpaused.
    depth: int
    #: Messages published.
    message_count: int
    #: Bytes of their bodies.
    message_bytes: int
    #: Messages that were not stored because one with their id was.
    duplicates: int
    #: Whether its messages do not go on to channels.
    paused: bool
    #: Its channels, sorted by name.
    channels: list[ChannelStats]


@dataclass(frozen=True, slots=True)
class Stats:
    """Numbers of a broker.

    >>> import libmq
    >>> with libmq.connect("mq:memory") as client:
    ...     receipt = client.publish("orders", "one pizza")
    ...     client.create_channel("orders", "billing")
    ...     [topic.name for topic in client.stats().topics]
    ['orders']
    """

    #: Its topics, sorted by name.
    topics: list[TopicStats]


for _class in (ChannelStats, TopicStats, Stats):
    _class.__module__ = "libmq"
