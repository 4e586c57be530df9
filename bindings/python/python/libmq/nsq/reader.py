"""Consumers."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any

from .. import _libmq, connect
from .._errors import Closed, Error
from .._worker import check_result
from ..aio import _Loop
from . import event, loop
from .backoff_timer import BackoffTimer
from .message import Message
from .options import Options, addresses, lookup_address

logger = logging.getLogger("nsq.reader")

#: Interval at which disabled() is asked again, as pynsq's.
_DISABLED_EVERY = 15.0
#: Longest delay of a requeue that NSQ takes, in milliseconds.
_REQUEUE_MAX_MS = 3_600_000

Handler = Callable[[Message], Any]


class Reader:
    """Calls a handler with every message of a channel: a function that returns True (finished) or False
    (requeued), or a coroutine function. It begins by itself once the loop runs.

    To be subclassed: process_message, giving_up, heartbeat, validate_message, preprocess_message, disabled; each may
    be a coroutine function.

    >>> import os, signal
    >>> import libmq, libmq.nsq as nsq
    >>> def handler(message):
    ...     print(message.body)
    ...     os.kill(os.getpid(), signal.SIGTERM)
    ...     return True
    >>> with libmq.connect("mq:memory") as broker:
    ...     served = broker.serve("--tcp-address=127.0.0.1:0", "--http-address=", "--grpc-address=")
    ...     receipt = broker.publish("orders", "one pizza")
    ...     reader = nsq.Reader("orders", "billing", handler, nsqd_tcp_addresses=[served["tcp"]])
    ...     nsq.run()
    b'one pizza'
    """

    def __init__(
        self,
        topic: str,
        channel: str,
        message_handler: Handler | None = None,
        name: str | None = None,
        nsqd_tcp_addresses: str | Iterable[str] | None = None,
        lookupd_http_addresses: str | Iterable[str] | None = None,
        max_tries: int = 5,
        max_in_flight: int = 1,
        lookupd_poll_interval: int = 60,
        low_rdy_idle_timeout: int = 10,
        max_backoff_duration: float = 128,
        lookupd_poll_jitter: float = 0.3,
        lookupd_connect_timeout: int = 1,
        lookupd_request_timeout: int = 2,
        **kwargs: Any,
    ) -> None:
        assert isinstance(topic, str) and topic, "the topic is a string"
        assert isinstance(channel, str) and channel, "the channel is a string"
        assert isinstance(max_in_flight, int) and max_in_flight > 0
        assert isinstance(max_backoff_duration, (int, float)) and max_backoff_duration > 0
        assert isinstance(lookupd_poll_interval, int)
        assert isinstance(lookupd_poll_jitter, float) and 0.0 <= lookupd_poll_jitter <= 1.0
        assert isinstance(lookupd_connect_timeout, int)
        assert isinstance(lookupd_request_timeout, int)
        self._options = Options(kwargs)
        brokers = addresses("nsqd_tcp_addresses", nsqd_tcp_addresses)
        lookups = addresses("lookupd_http_addresses", lookupd_http_addresses)
        assert brokers or lookups, "nsqd_tcp_addresses or lookupd_http_addresses is needed"

        self.topic = topic
        self.channel = channel
        self.name = name or f"{topic}:{channel}"
        self.max_tries = max_tries
        self.max_in_flight = max_in_flight
        self.nsqd_tcp_addresses = brokers
        self.lookupd_http_addresses = lookups
        self.backoff_timer = BackoffTimer(0, max_backoff_duration)
        self.message_handler: Handler | None = None
        if message_handler is not None:
            self.set_message_handler(message_handler)

        self._lookupd_poll_interval = lookupd_poll_interval
        self._loop = loop.current()
        self._operations: _Loop | None = None
        self._clients: list[_libmq.Client] = []
        self._subscriptions: list[_libmq.Subscription] = []
        self._tasks: set[asyncio.Future[Any]] = set()
        #: Messages with the handler.
        self._in_flight = 0
        #: Whether a pause after failures is on.
        self._pauses = False
        self._closed = False
        loop.opened(self)
        self._loop.call_soon(self._run)

    # The program's part.

    def set_message_handler(self, message_handler: Handler) -> None:
        """Sets the handler, before the loop runs."""
        assert callable(message_handler), "the message_handler is callable"
        self.message_handler = message_handler

    def process_message(self, message: Message) -> Any:
        """Handles a message: by the message_handler, unless it is overridden."""
        assert self.message_handler is not None
        return self.message_handler(message)

    def giving_up(self, message: Message) -> Awaitable[None] | None:
        """Called with a message that was tried max_tries times, before it is finished."""
        logger.warning("[%s] giving up on message %s after %d tries", self.name, message.id, message.attempts)
        return None

    def validate_message(self, message: Message) -> bool | Awaitable[bool]:
        """Whether a message is to be handled; it is finished else."""
        return True

    def preprocess_message(self, message: Message) -> Message | Awaitable[Message]:
        """Changes a message before validate_message() sees it."""
        return message

    def heartbeat(self, conn: Any) -> Awaitable[None] | None:
        """Called at each interval of the heartbeats, which the library answers by itself. ``conn`` is the address."""
        return None

    def disabled(self) -> bool | Awaitable[bool]:
        """Whether no message is to come; asked every 15 seconds."""
        return False

    # What it can be asked to do.

    def set_max_in_flight(self, max_in_flight: int) -> None:
        """Changes how many messages are in flight at most; 0 pauses."""
        assert isinstance(max_in_flight, int) and max_in_flight >= 0
        self.max_in_flight = max_in_flight
        self._allow()

    def is_starved(self) -> bool:
        """Whether the messages in flight are near their number."""
        return self._in_flight > 0 and self._in_flight >= self.max_in_flight * 0.85

    def connect_to_nsqd(self, host: str, port: int) -> None:
        """Consumes from one more broker."""
        assert isinstance(host, str) and isinstance(port, int)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if address not in self.nsqd_tcp_addresses:
            self.nsqd_tcp_addresses.append(address)
            if self._operations is not None:
                self._connect(f"{self._options.scheme()}://{address}")

    async def query_lookupd(self) -> None:
        """Nothing: the library asks lookup servers at once, and again and again."""

    def close(self) -> None:
        """Takes no more. What is being handled goes on, and can be answered."""
        if not self._closed:
            self._closed = True
            for subscription in self._subscriptions:
                subscription.set_max_in_flight(0)
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._spawn, self._drain())

    # The library's part.

    def _run(self) -> None:
        assert self.message_handler is not None or type(self).process_message is not Reader.process_message, (
            "no message_handler"
        )
        if self._closed:
            return
        self._operations = _Loop()
        scheme = self._options.scheme()
        if self.nsqd_tcp_addresses:
            self._connect(f"{scheme}://{','.join(self.nsqd_tcp_addresses)}")
        if self.lookupd_http_addresses:
            assert scheme == "mq", "tls_v1 with lookupd_http_addresses: not yet; name the brokers"
            self._connect(f"mq+lookup://{','.join(map(lookup_address, self.lookupd_http_addresses))}")
        self._spawn(self._heartbeats())

    def _connect(self, url: str) -> None:
        settings = self._options.settings()
        settings["lookup_poll_interval"] = min(self._lookupd_poll_interval, 300)
        client = connect(url, **settings)
        subscription = client.subscribe(
            self.topic,
            self.channel,
            max_in_flight=max(1, self.max_in_flight),
            msg_timeout=self._options["msg_timeout"],
            sample_rate=self._options["sample_rate"],
        )
        self._clients.append(client)
        self._subscriptions.append(subscription)
        self._allow()
        self._spawn(self._consume(subscription))

    def _spawn(self, work: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(work, loop=self._loop)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _allow(self) -> None:
        """Sets how many messages may come."""
        many = self.max_in_flight
        if self._closed or self._pauses:
            many = 0
        elif self.backoff_timer.get_interval() > 0:
            # One, to see whether it goes again.
            many = min(many, 1)
        for subscription in self._subscriptions:
            subscription.set_max_in_flight(many)

    async def _consume(self, subscription: _libmq.Subscription) -> None:
        assert self._operations is not None
        given = 0
        while not self._closed:
            disabled = self.disabled()
            if inspect.isawaitable(disabled):
                disabled = await disabled
            if disabled:
                subscription.set_max_in_flight(0)
                await asyncio.sleep(_DISABLED_EVERY)
                self._allow()
                continue
            given += 1
            if given % 64 == 0:
                # There may always be a next message, and others want their turn.
                await asyncio.sleep(0)
            try:
                delivered = subscription._next_now()
                if delivered is None:
                    delivered = await self._operations.run(subscription._next_operation())
            except Closed:
                return
            except Error:
                logger.exception("[%s] no message can be taken", self.name)
                await asyncio.sleep(1.0)
                continue
            self._handle(delivered)

    def _handle(self, delivered: _libmq.Message) -> None:
        message = Message._delivered(delivered)
        self._in_flight += 1

        def finished(message: Message) -> None:
            self._in_flight -= 1
            delivered.finish()
            self._responded(True)

        def requeued(message: Message, backoff: bool = True, time_ms: int = -1, delay: int | None = None) -> None:
            self._in_flight -= 1
            if isinstance(delay, int) and delay >= 0:
                time_ms = delay * 1000
            if time_ms < 0:
                time_ms = self._options["requeue_delay"] * 1000 * message.attempts
            delivered.requeue(min(time_ms, _REQUEUE_MAX_MS) / 1000)
            self._responded(False if backoff else None)

        def touched(message: Message) -> None:
            delivered.touch()

        message.on(event.FINISH, finished)
        message.on(event.REQUEUE, requeued)
        message.on(event.TOUCH, touched)
        steps = self._steps(message)
        result: Any = None
        try:
            while True:
                result = steps.send(result)
                if inspect.isawaitable(result):
                    # The rest in a task; the next message meanwhile.
                    self._spawn(self._go_on_with(message, steps, result))
                    return
        except StopIteration as end:
            if not message.is_async():
                self._answer(message, end.value)
        except BaseException as error:
            self._failed(message)
            if not isinstance(error, Exception):
                raise

    def _steps(self, message: Message) -> Generator[Any, Any, Any]:
        """Calls what the program may override, one after the other, and gives what each returns: whoever runs the
        steps awaits it, if it can be. Returns whether the message is done."""
        if 0 < self.max_tries < message.attempts:
            yield self.giving_up(message)
            return True
        processed = yield self.preprocess_message(message)
        if not (yield self.validate_message(processed)):
            return True
        result = yield self.process_message(message)
        check_result("the message_handler", result)
        return result

    async def _go_on_with(self, message: Message, steps: Generator[Any, Any, Any], awaitable: Awaitable[Any]) -> None:
        """Awaits what a step returned, and goes on with the others."""
        result: Any = awaitable
        is_coroutine = True
        try:
            while True:
                is_coroutine = inspect.isawaitable(result)
                while inspect.isawaitable(result):
                    result = await result
                result = steps.send(result)
        except StopIteration as end:
            if is_coroutine or not message.is_async():
                self._answer(message, bool(end.value))
        except Exception:
            self._failed(message)

    def _failed(self, message: Message) -> None:
        logger.exception("[%s] message %s failed", self.name, message.id)
        if not message.has_responded():
            message.requeue()

    def _answer(self, message: Message, result: Any) -> None:
        if message.has_responded():
            return
        if result is None:
            # pynsq leaves such a message until it times out; here it comes again as after any failure.
            logger.error("[%s] a handler returns True or False, or calls enable_async(): not None", self.name)
        if result:
            message.finish()
        else:
            message.requeue()

    def _responded(self, success: bool | None) -> None:
        """A message was answered. ``None``: neither a success nor a failure."""
        before = self.backoff_timer.get_interval()
        if success is False and not self._pauses:
            self.backoff_timer.failure()
        elif success:
            self.backoff_timer.success()
        after = self.backoff_timer.get_interval()
        if self._pauses or self._closed:
            return
        if after > 0:
            self._pauses = True
            self._loop.call_later(after, self._go_on)
            logger.info("[%s] backing off for %.2f seconds", self.name, after)
            self._allow()
        elif before > 0:
            self._allow()

    def _go_on(self) -> None:
        self._pauses = False
        self._allow()

    async def _heartbeats(self) -> None:
        if type(self).heartbeat is Reader.heartbeat:
            return
        while not self._closed:
            await asyncio.sleep(self._options["heartbeat_interval"])
            for address in self.nsqd_tcp_addresses or self.lookupd_http_addresses:
                beaten = self.heartbeat(address)
                if inspect.isawaitable(beaten):
                    await beaten

    async def _drain(self) -> None:
        """Takes no more, and gives back what nobody has."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.set_max_in_flight(0)
        deadline = self._loop.time() + 5.0
        while self._in_flight and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        for client in self._clients:
            await self._loop.run_in_executor(None, client.close, 5.0)
        current = asyncio.current_task()
        for task in list(self._tasks):
            if task is not current:
                task.cancel()
