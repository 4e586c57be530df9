"""The client for asyncio: as libmq, with ``await``, ``async with`` and ``async for``.

>>> import asyncio
>>> import libmq.aio
>>> async def main():
...     async with libmq.aio.connect("mq:memory") as client:
...         async with client.subscribe("orders", "billing") as billing:
...             await client.publish("orders", "one pizza")
...             async for message in billing:
...                 message.finish()
...                 return message.text
>>> asyncio.run(main())
'one pizza'

finish(), requeue(), release() and touch() of messages are plain calls here too. Cancelling a wait takes no message with it;
cancelling a publish withdraws what was not sent. Each client belongs to the event loop that it was made in.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Generator
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from . import _libmq
from . import connect as _connect
from ._arguments import seconds as _checked_seconds
from ._errors import Closed
from ._failure import Failure
from ._libmq import Batch, Message, Pending, Receipt
from ._settings import ChannelSettings, TopicSettings
from ._stats import Stats
from ._worker import run_in_loop as run

__all__ = ["Client", "Subscription", "connect", "run"]

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._types import Bodies, Bytes, Headers, Seconds, Settings

_T = TypeVar("_T")

#: Messages that a loop gives without a pause, before other tasks have their turn.
_TURN = 64


class _Loop:
    """The operations of one event loop that wait."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._wakeups = _libmq.Wakeups()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._keys = itertools.count()
        self._is_watched = False

    async def run(
        self,
        operation: _libmq.Operation,
        timeout: float | None = None,
        late: Callable[[], None] | None = None,
    ) -> Any:
        """Waits for an operation; None if it has no outcome within the timeout, in seconds, nor once ``late`` was
        called then. An outcome is taken in the step in which this returns, so that cancelling loses nothing."""
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("this client belongs to another event loop")
        key = next(self._keys)
        is_over = False

        # The timer alone says that the time is over: a loop's clock may be coarser than its timers.
        def end() -> None:
            nonlocal is_over
            is_over = True
            if late is not None:
                late()
            self._go_on(key)

        timer = None if timeout is None else self.loop.call_later(timeout, end)
        try:
            while True:
                # Before the poll: it may be woken at once.
                going_on = self._waiting[key] = self.loop.create_future()
                outcome = operation.poll(self._wakeups, key)
                if outcome is not None or is_over:
                    return outcome
                if not self._is_watched:
                    self._is_watched = True
                    self.loop.add_reader(self._wakeups.fileno(), self._wake)
                await going_on
        finally:
            operation.cancel()
            if timer is not None:
                timer.cancel()
            del self._waiting[key]
            if not self._waiting and self._is_watched:
                self._is_watched = False
                self.loop.remove_reader(self._wakeups.fileno())
                # Those of waits that are over: the loop takes none while nobody waits.
                self._wakeups.take()

    async def in_thread(self, call: Callable[..., _T], *arguments: Any) -> _T:
        """Waits for a call that blocks."""
        return await self.loop.run_in_executor(None, call, *arguments)

    def _wake(self) -> None:
        for key in self._wakeups.take():
            self._go_on(key)

    def _go_on(self, key: int) -> None:
        going_on = self._waiting.get(key)
        if going_on is not None and not going_on.done():
            going_on.set_result(None)


def _seconds(timeout: Seconds | None) -> float | None:
    """A timeout as seconds; None is for ever."""
    if timeout is None:
        return None
    # asyncio's timers hold no more.
    return min(_checked_seconds("timeout", timeout), 1e6)


class _Connecting:
    """What connect() returns: a client once it is awaited, or entered."""

    def __init__(self, url: str | os.PathLike[str], settings: Settings) -> None:
        self._url = url
        self._settings = settings
        self._client: Client | None = None

    async def _connect(self) -> Client:
        # A folder is read when it is opened.
        loop = asyncio.get_running_loop()
        client = await loop.run_in_executor(None, lambda: _connect(self._url, **self._settings))
        self._client = Client(client)
        return self._client

    def __await__(self) -> Generator[Any, None, Client]:
        return self._connect().__await__()

    async def __aenter__(self) -> Client:
        return await self._connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()


def connect(url: str | os.PathLike[str], **settings: Unpack[Settings]) -> _Connecting:
    """As libmq.connect(), to be awaited, or for ``async with``.

    >>> import asyncio
    >>> import libmq.aio
    >>> async def main():
    ...     async with libmq.aio.connect("mq:memory") as client:
    ...         return (await client.publish("orders", "one pizza")).duplicate
    >>> asyncio.run(main())
    False
    """
    return _Connecting(url, settings)


class Client:
    """A client of brokers, or of one in this process: what connect() gives.

    >>> import asyncio
    >>> import libmq.aio
    >>> async def main():
    ...     async with libmq.aio.connect("mq:memory") as client:
    ...         receipts = await client.publish("orders", ["one pizza", "two pizzas"])
    ...         return len(receipts)
    >>> asyncio.run(main())
    2
    """

    def __init__(self, client: _libmq.Client) -> None:
        self._client = client
        self._loop = _Loop()

    # A str is an iterable of str too: the first signature that fits is meant.
    @overload
    async def publish(  # type: ignore[overload-overlap]
        self,
        topic: str,
        body: Bytes,
        *,
        headers: Headers | None = None,
        id: Bytes | None = None,
        delay: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> Receipt: ...

    @overload
    async def publish(
        self,
        topic: str,
        body: Bodies,
        *,
        headers: Headers | None = None,
        id: list[Bytes] | None = None,
        delay: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> list[Receipt]: ...

    async def publish(
        self,
        topic: str,
        body: Bytes | Bodies,
        *,
        headers: Headers | None = None,
        id: Bytes | list[Bytes] | None = None,
        delay: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> Receipt | list[Receipt]:
        """As libmq.Client.publish(), for ever without a timeout. Waits while the client's buffer is full.

        At the end of its timeout it raises what happened to the message, which asyncio.timeout() can't say:
        Timeout if it was not sent, and never is then; Unknown if it was, and was not answered.

        >>> import asyncio
        >>> import libmq.aio
        >>> async def main():
        ...     async with libmq.aio.connect("mq:memory") as client:
        ...         return (await client.publish("orders", "one pizza", timeout=0.5)).duplicate
        >>> asyncio.run(main())
        False
        """
        operation = self._client._publish_operation(topic, body, headers=headers, id=id, delay=delay)
        receipts = await self._loop.run(operation, _seconds(timeout), operation.end)
        return cast("Receipt | list[Receipt]", receipts)

    def send(
        self,
        topic: str,
        body: Bytes | Bodies,
        *,
        headers: Headers | None = None,
        id: Bytes | list[Bytes] | None = None,
        delay: Seconds | None = None,
    ) -> Pending:
        """As libmq.Client.send(): a plain call. flush() waits for what was sent."""
        return self._client.send(topic, body, headers=headers, id=id, delay=delay)

    async def flush(self) -> None:
        """Waits until every publish has its outcome.

        >>> import asyncio
        >>> import libmq.aio
        >>> async def main():
        ...     async with libmq.aio.connect("mq:memory") as client:
        ...         pending = client.send("orders", "one pizza")
        ...         await client.flush()
        ...         return pending.state
        >>> asyncio.run(main())
        'stored'
        """
        await self._loop.run(self._client._flush_operation())

    def subscribe(
        self,
        topic: str,
        channel: str,
        *,
        max_in_flight: int = 200,
        msg_timeout: Seconds | None = None,
        sample_rate: int = 0,
        start: str | int | datetime | None = None,
        max_message_bytes: int = 0,
        max_in_flight_bytes: int = 0,
    ) -> Subscription:
        """As libmq.Client.subscribe(). ``async with`` waits for the first attempt at each broker, at most 5 s:
        what is published from then on comes to the channel."""
        subscription = self._client._subscribe(
            topic, channel, max_in_flight, msg_timeout, sample_rate, start, max_message_bytes, max_in_flight_bytes
        )
        return Subscription(subscription, self._loop)

    async def close(self, timeout: Seconds | None = None) -> None:
        """As libmq.Client.close()."""
        await self._loop.in_thread(self._client.close, timeout)

    async def serve(self, *flags: str) -> dict[str, str]:
        """As libmq.Client.serve()."""
        return await self._loop.in_thread(self._client.serve, *flags)

    async def stats(self) -> Stats:
        """As libmq.Client.stats()."""
        return await self._loop.in_thread(self._client.stats)

    def advance(self, by: Seconds) -> None:
        """As libmq.Client.advance()."""
        self._client.advance(by)

    async def create_topic(self, topic: str) -> None:
        """As libmq.Client.create_topic()."""
        await self._loop.in_thread(self._client.create_topic, topic)

    async def delete_topic(self, topic: str) -> None:
        """As libmq.Client.delete_topic()."""
        await self._loop.in_thread(self._client.delete_topic, topic)

    async def empty_topic(self, topic: str) -> None:
        """As libmq.Client.empty_topic()."""
        await self._loop.in_thread(self._client.empty_topic, topic)

    async def pause_topic(self, topic: str) -> None:
        """As libmq.Client.pause_topic()."""
        await self._loop.in_thread(self._client.pause_topic, topic)

    async def unpause_topic(self, topic: str) -> None:
        """As libmq.Client.unpause_topic()."""
        await self._loop.in_thread(self._client.unpause_topic, topic)

    async def create_channel(self, topic: str, channel: str) -> None:
        """As libmq.Client.create_channel()."""
        await self._loop.in_thread(self._client.create_channel, topic, channel)

    async def delete_channel(self, topic: str, channel: str) -> None:
        """As libmq.Client.delete_channel()."""
        await self._loop.in_thread(self._client.delete_channel, topic, channel)

    async def empty_channel(self, topic: str, channel: str) -> None:
        """As libmq.Client.empty_channel()."""
        await self._loop.in_thread(self._client.empty_channel, topic, channel)

    async def pause_channel(self, topic: str, channel: str) -> None:
        """As libmq.Client.pause_channel()."""
        await self._loop.in_thread(self._client.pause_channel, topic, channel)

    async def unpause_channel(self, topic: str, channel: str) -> None:
        """As libmq.Client.unpause_channel()."""
        await self._loop.in_thread(self._client.unpause_channel, topic, channel)

    async def topic_settings(self, topic: str) -> TopicSettings:
        """As libmq.Client.topic_settings()."""
        return await self._loop.in_thread(self._client.topic_settings, topic)

    async def set_topic_settings(self, topic: str, settings: TopicSettings) -> None:
        """As libmq.Client.set_topic_settings()."""
        await self._loop.in_thread(self._client.set_topic_settings, topic, settings)

    async def channel_settings(self, topic: str, channel: str) -> ChannelSettings:
        """As libmq.Client.channel_settings()."""
        return await self._loop.in_thread(self._client.channel_settings, topic, channel)

    async def set_channel_settings(self, topic: str, channel: str, settings: ChannelSettings) -> None:
        """As libmq.Client.set_channel_settings()."""
        await self._loop.in_thread(self._client.set_channel_settings, topic, channel, settings)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class Subscription:
    """A subscription to a channel. ``async for`` gives one message after the other, and finishes none of them.

    >>> import asyncio
    >>> import libmq.aio
    >>> async def main():
    ...     async with libmq.aio.connect("mq:memory") as client:
    ...         await client.publish("orders", ["one pizza", "two pizzas"])
    ...         async with client.subscribe("orders", "billing") as billing:
    ...             async for message in billing:
    ...                 print(message.text)
    ...                 message.finish()
    ...                 if message.text == "two pizzas":
    ...                     break
    >>> asyncio.run(main())
    one pizza
    two pizzas
    """

    def __init__(self, subscription: _libmq.Subscription, loop: _Loop) -> None:
        self._subscription = subscription
        self._loop = loop
        self._given = 0

    async def next(self, timeout: Seconds | None = None) -> Message | None:
        """The next message; None if none came within the timeout.

        >>> import asyncio
        >>> import libmq.aio
        >>> async def main():
        ...     async with libmq.aio.connect("mq:memory") as client:
        ...         return await client.subscribe("orders", "billing").next(timeout=0.01) is None
        >>> asyncio.run(main())
        True
        """
        timeout = _seconds(timeout)
        message = self._subscription._next_now()
        if message is None:
            operation = self._subscription._next_operation()
            message = cast("Message | None", await self._loop.run(operation, timeout))
        return message

    async def next_batch(self, max: int = 100, timeout: Seconds | None = None) -> Batch:
        """The messages that are there, at most ``max``, once there is one; an empty batch if none came within
        the timeout.

        >>> import asyncio
        >>> import libmq.aio
        >>> async def main():
        ...     async with libmq.aio.connect("mq:memory") as client:
        ...         billing = client.subscribe("orders", "billing")
        ...         await client.publish("orders", ["one pizza", "two pizzas"])
        ...         batch = await billing.next_batch()
        ...         batch.finish()
        ...         return batch.bodies
        >>> asyncio.run(main())
        [b'one pizza', b'two pizzas']
        """
        timeout = _seconds(timeout)
        operation = self._subscription._batch_operation(max)
        batch = cast("Batch | None", await self._loop.run(operation, timeout))
        return batch if batch is not None else self._subscription.next_batch(0, 0)

    async def batches(self, max: int = 100) -> AsyncIterator[Batch]:
        """Batches of the messages that are there, until the subscription is closed.

        >>> import asyncio
        >>> import libmq.aio
        >>> async def main():
        ...     async with libmq.aio.connect("mq:memory") as client:
        ...         billing = client.subscribe("orders", "billing")
        ...         await client.publish("orders", ["one pizza", "two pizzas"])
        ...         async for batch in billing.batches():
        ...             batch.finish()
        ...             return len(batch)
        >>> asyncio.run(main())
        2
        """
        while True:
            try:
                yield await self.next_batch(max)
            except Closed:
                if not self._subscription._is_closed_here:
                    raise
                return

    @property
    def is_new(self) -> bool | None:
        """As libmq.Subscription.is_new."""
        return self._subscription.is_new

    def set_max_in_flight(self, max: int) -> None:
        """As libmq.Subscription.set_max_in_flight()."""
        self._subscription.set_max_in_flight(max)

    def failures(self) -> list[Failure]:
        """As libmq.Subscription.failures()."""
        return self._subscription.failures()

    async def flush(self, timeout: Seconds | None = None) -> bool:
        """As libmq.Subscription.flush().

        >>> import asyncio
        >>> import libmq.aio
        >>> async def main():
        ...     async with libmq.aio.connect("mq:memory") as client:
        ...         billing = client.subscribe("orders", "billing")
        ...         await client.publish("orders", "one pizza")
        ...         (await billing.next()).finish()
        ...         return await billing.flush(timeout=5)
        >>> asyncio.run(main())
        True
        """
        return await self._loop.in_thread(self._subscription.flush, _seconds(timeout))

    async def close(self, timeout: Seconds | None = None) -> bool:
        """As libmq.Subscription.close()."""
        return await self._loop.in_thread(self._subscription.close, _seconds(timeout))

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Message:
        self._given += 1
        if self._given % _TURN == 0:
            # There may always be a next message. It is taken after the pause: a cancelled task has none in hand.
            await asyncio.sleep(0)
        try:
            message = await self.next()
        except Closed:
            # A channel that was deleted is no end that the program asked for.
            if not self._subscription._is_closed_here:
                raise
            raise StopAsyncIteration from None
        assert message is not None, "without a timeout it waits for one"
        return message

    async def __aenter__(self) -> Subscription:
        await self._loop.run(self._subscription._opened_operation(), self._subscription._OPENING_MAX)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
