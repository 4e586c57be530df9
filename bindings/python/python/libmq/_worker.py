"""A worker: a handler for the messages of a channel, until the program is told to stop."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from ._errors import Closed, Error, Invalid
from ._libmq import Client, Message, Subscription

log = logging.getLogger("libmq")

#: Signals that end a worker.
_STOP = (signal.SIGINT, signal.SIGTERM)
#: Longest wait for a message between two looks at whether to stop, in seconds.
_LOOK_EVERY = 0.2


def run(
    handler: Callable[[Message], Any],
    *,
    topic: str,
    channel: str,
    url: str,
    concurrency: int = 1,
    max_attempts: int = 0,
    backoff: float = 1.0,
    max_backoff: float = 600.0,
    give_up: Callable[[Message], Any] | None = None,
    drain_timeout: float = 30.0,
    msg_timeout: float = 60.0,
    **settings: Any,
) -> None:
    """Calls ``handler`` with every message of a channel, until SIGINT or SIGTERM. What it returns from is
    finished; what it raises on comes again, after ``backoff`` seconds, then twice as many, up to
    ``max_backoff``. A handler that answers the message itself has the last word.

    ``handler`` is a function, called in as many threads as ``concurrency`` says, or a coroutine function, called
    in as many tasks. A message that is handled longer than ``msg_timeout`` is touched meanwhile. One that was
    tried more than ``max_attempts`` times (0: no limit) goes to ``give_up``, and is finished.

    In a program that uses OpenTelemetry, the context in the message's headers is the current one for the handler.

    At a signal no more is taken, and what is being handled has ``drain_timeout`` seconds. ``settings`` are those
    of libmq.connect().

    A worker that its first message ends:

    >>> import libmq, os, signal, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with libmq.connect(folder) as client:
    ...     receipt = client.publish("orders", "one pizza")
    >>> def handle(message):
    ...     print(message.text)
    ...     os.kill(os.getpid(), signal.SIGTERM)
    >>> libmq.run(handle, topic="orders", channel="billing", url=folder, concurrency=4)
    one pizza
    """
    if not callable(handler):
        raise TypeError(f"the handler is {handler!r}: a function, or a coroutine function")
    if concurrency < 1:
        raise Invalid(f"concurrency is {concurrency}: at least 1")
    for name, seconds in (("backoff", backoff), ("max_backoff", max_backoff), ("drain_timeout", drain_timeout)):
        if not seconds >= 0:
            raise Invalid(f"{name} is {seconds} s: at least 0")
    worker = _Worker(handler, max_attempts, backoff, max_backoff, give_up, drain_timeout, msg_timeout)
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):
        asyncio.run(worker.run_tasks(url, settings, topic, channel, concurrency))
    else:
        worker.run_threads(url, settings, topic, channel, concurrency)


class _Worker:
    """What threads and tasks have in common: what becomes of a message."""

    def __init__(
        self,
        handler: Callable[[Message], Any],
        max_attempts: int,
        backoff: float,
        max_backoff: float,
        give_up: Callable[[Message], Any] | None,
        drain_timeout: float,
        msg_timeout: float,
    ) -> None:
        self._handler = handler
        self._max_attempts = max_attempts
        self._backoff = backoff
        self._max_backoff = max_backoff
        self._give_up = give_up
        self._drain_timeout = drain_timeout
        self._msg_timeout = msg_timeout
        #: Messages that are being handled, by the thread or task that does.
        self._handled: dict[int, Message] = {}
        self._stop = threading.Event()

    def _is_too_old(self, message: Message) -> bool:
        return 0 < self._max_attempts < message.attempts

    def _failed(self, message: Message) -> None:
        delay = min(self._max_backoff, self._backoff * 2.0 ** min(message.attempts - 1, 62))
        log.exception("message %s failed, attempt %d: it comes again in %g s", message.id, message.attempts, delay)
        message.requeue(delay)

    def _call(self, message: Message) -> None:
        """Handles one message in a thread."""
        self._handled[id(message)] = message
        try:
            if self._is_too_old(message):
                if self._give_up is not None:
                    self._give_up(message)
            else:
                with _context(message):
                    self._handler(message)
            message.finish()
        except BaseException:
            # SystemExit too: a handler ends no thread of the worker.
            self._failed(message)
        finally:
            del self._handled[id(message)]

    async def _call_async(self, message: Message) -> None:
        """Handles one message in a task."""
        self._handled[id(message)] = message
        try:
            if self._is_too_old(message):
                given = self._give_up(message) if self._give_up is not None else None
                if isinstance(given, Awaitable):
                    await given
            else:
                with _context(message):
                    await self._handler(message)
            message.finish()
        except asyncio.CancelledError:
            # The worker cancels only once it stops; any other is the handler's own.
            if self._stop.is_set():
                raise
            self._failed(message)
        except Exception:
            self._failed(message)
        finally:
            del self._handled[id(message)]

    def _touch(self) -> None:
        for message in list(self._handled.values()):
            message.touch()

    def _report(self, failures: list[Any]) -> None:
        for failure in failures:
            log.warning("%s: %s", failure.broker, failure.error)

    # Threads.

    def run_threads(self, url: str, settings: dict[str, Any], topic: str, channel: str, concurrency: int) -> None:
        from . import connect

        with _signals() as signalled:
            client = connect(url, **settings)
            try:
                self._serve(client, topic, channel, concurrency, signalled)
            finally:
                client.close(timeout=self._drain_timeout)

    def _serve(
        self, client: Client, topic: str, channel: str, concurrency: int, signalled: Callable[[float], bool]
    ) -> None:
        subscription = client.subscribe(
            topic, channel, max_in_flight=concurrency, msg_timeout=self._msg_timeout
        )
        threads = [
            threading.Thread(target=self._take, args=(subscription,), name=f"libmq-worker-{n}", daemon=True)
            for n in range(concurrency)
        ]
        for thread in threads:
            thread.start()
        # A third: one touch may be late, and the next one is not too late.
        while not signalled(self._msg_timeout / 3) and any(thread.is_alive() for thread in threads):
            self._touch()
            self._report(subscription.failures())
        self._stop.set()
        deadline = threading.Thread(target=self._join, args=(threads,), daemon=True)
        deadline.start()
        ends = time.monotonic() + self._drain_timeout
        step = min(self._msg_timeout / 3, 1.0)
        while deadline.is_alive() and (left := ends - time.monotonic()) > 0:
            deadline.join(min(step, left))
            self._touch()
        if deadline.is_alive():
            log.warning("%d messages are still being handled: they come again", len(self._handled))
        subscription.close(timeout=max(ends - time.monotonic(), 1.0))
        self._report(subscription.failures())

    @staticmethod
    def _join(threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join()

    def _take(self, subscription: Subscription) -> None:
        while not self._stop.is_set():
            try:
                message = subscription.next(timeout=_LOOK_EVERY)
            except Closed:
                return
            except Error:
                log.exception("no message can be taken")
                self._stop.wait(1.0)
                continue
            if message is not None:
                self._call(message)

    # Tasks.

    async def run_tasks(
        self, url: str, settings: dict[str, Any], topic: str, channel: str, concurrency: int
    ) -> None:
        from . import aio

        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        for number in _STOP:
            loop.add_signal_handler(number, stopped.set)
        try:
            async with aio.connect(url, **settings) as client:
                subscription = client.subscribe(
                    topic, channel, max_in_flight=concurrency, msg_timeout=self._msg_timeout
                )
                toucher = loop.create_task(self._touch_again(subscription))
                takers = [loop.create_task(self._take_async(subscription)) for _ in range(concurrency)]
                everyone: asyncio.Future[Any] = asyncio.gather(*takers)
                waiter: asyncio.Future[Any] = loop.create_task(stopped.wait())
                await asyncio.wait([everyone, waiter], return_when=asyncio.FIRST_COMPLETED)
                waiter.cancel()
                self._stop.set()
                _, late = await asyncio.wait(takers, timeout=self._drain_timeout)
                if late:
                    log.warning("%d messages are still being handled: they come again", len(self._handled))
                for task in (*takers, toucher):
                    task.cancel()
                # One that will not end is left to the end of the loop.
                await asyncio.wait((*takers, toucher), timeout=1.0)
                await subscription.close(timeout=max(1.0, self._drain_timeout))
                self._report(subscription.failures())
        finally:
            for number in _STOP:
                loop.remove_signal_handler(number)

    async def _touch_again(self, subscription: Any) -> None:
        while True:
            await asyncio.sleep(self._msg_timeout / 3)
            self._touch()
            self._report(subscription.failures())

    async def _take_async(self, subscription: Any) -> None:
        while not self._stop.is_set():
            try:
                message = await subscription.next(timeout=_LOOK_EVERY)
            except Closed:
                return
            except Error:
                log.exception("no message can be taken")
                await asyncio.sleep(1.0)
                continue
            if message is not None:
                await self._call_async(message)


def _context(message: Message) -> AbstractContextManager[Any]:
    """The publisher's context of OpenTelemetry, in a program that uses it."""
    if "opentelemetry.propagate" not in sys.modules:
        return nullcontext()
    from . import telemetry

    return telemetry.attached(message)


@contextmanager
def _signals() -> Generator[Callable[[float], bool], None, None]:
    """Gives a function that waits up to so many seconds for a signal that ends a worker, and says whether one came.
    Where this is not the main thread, none does.

    A handler runs between any two steps of the main thread, so it takes no lock: it writes to a pipe.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _STOP} if is_main else {}

    def handler(*_: Any) -> None:
        try:
            os.write(writer, b"x")
        except BlockingIOError:
            pass

    def signalled(seconds: float) -> bool:
        return bool(select.select([reader], [], [], seconds)[0])

    try:
        for number in before:
            signal.signal(number, handler)
        yield signalled
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
        os.close(reader)
        os.close(writer)


run.__module__ = "libmq"
