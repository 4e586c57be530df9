"""A worker: a handler for the messages of a channel, until the program is told to stop."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ._arguments import count, function, seconds
from ._errors import Closed, Error
from ._failure import Failure
from ._libmq import Client, Message, Subscription

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._types import Seconds, Settings

log = logging.getLogger("libmq")

#: Signals that end a worker.
_STOP = (signal.SIGINT, signal.SIGTERM)
#: Longest wait for a message between two looks at whether to stop, in seconds.
_LOOK_EVERY = 0.2
#: asyncio's timers hold no more.
_SECONDS_MAX = 1e6


def run(
    handler: Callable[[Message], Any],
    *,
    topic: str,
    channel: str,
    url: str | os.PathLike[str],
    concurrency: int = 1,
    max_attempts: int = 0,
    backoff: Seconds = 1.0,
    max_backoff: Seconds = 600.0,
    give_up: Callable[[Message], Any] | None = None,
    drain_timeout: Seconds = 30.0,
    msg_timeout: Seconds = 60.0,
    **settings: Unpack[Settings],
) -> None:
    """Calls ``handler`` with every message of a channel, until SIGINT or SIGTERM. What it returns from is
    finished; what it raises on (SystemExit too) comes again, after ``backoff`` seconds, then twice as many, up to
    ``max_backoff``. A handler that answers the message itself has the last word.

    ``handler`` is a function, called in as many threads as ``concurrency`` says, or a coroutine function, called
    in as many tasks. An awaitable that a function returns is awaited too, in an event loop beside the threads. A
    message that is handled longer than ``msg_timeout`` is touched meanwhile. One that was tried more than
    ``max_attempts`` times (0: no limit) goes to ``give_up``, and is finished.

    In a program that uses OpenTelemetry, the context in the message's headers is the current one for the handler.

    At a signal no more is taken, and what is being handled has ``drain_timeout`` seconds; a second signal ends the
    program at once. ``settings`` are those of libmq.connect(). In an event loop that runs already it is
    ``await libmq.aio.run(...)``. It raises Closed if the channel or its topic is deleted.

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
    if _is_in_loop():
        # It would keep the loop from everything else, for a plain handler too.
        raise RuntimeError("libmq.run() in an event loop that runs: await libmq.aio.run() there")
    worker = _Worker(
        handler, topic, channel, concurrency, max_attempts, backoff, max_backoff, give_up, drain_timeout, msg_timeout
    )
    if is_async(handler):
        asyncio.run(worker.run_tasks(url, settings, has_signals=True))
    else:
        worker.run_threads(url, settings)


async def run_in_loop(
    handler: Callable[[Message], Any],
    *,
    topic: str,
    channel: str,
    url: str | os.PathLike[str],
    concurrency: int = 1,
    max_attempts: int = 0,
    backoff: Seconds = 1.0,
    max_backoff: Seconds = 600.0,
    give_up: Callable[[Message], Any] | None = None,
    drain_timeout: Seconds = 30.0,
    msg_timeout: Seconds = 60.0,
    **settings: Unpack[Settings],
) -> None:
    """A worker as libmq.run(), but a task of an event loop that runs already, such as a web service's. Signals are left to
    the program: it runs until it is cancelled, and what is being handled then has ``drain_timeout`` seconds.

    A plain function is called in threads, so that it may block.

    >>> import asyncio
    >>> import libmq.aio
    >>> async def main(folder):
    ...     handled = asyncio.Event()
    ...     async def handle(message):
    ...         print(message.text)
    ...         handled.set()
    ...     async with libmq.aio.connect(folder) as client:
    ...         await client.publish("orders", "one pizza")
    ...     worker = asyncio.create_task(libmq.aio.run(handle, topic="orders", channel="billing", url=folder))
    ...     await handled.wait()
    ...     worker.cancel()
    ...     await asyncio.wait([worker])
    >>> import tempfile
    >>> asyncio.run(main(tempfile.mkdtemp()))
    one pizza
    """
    worker = _Worker(
        handler, topic, channel, concurrency, max_attempts, backoff, max_backoff, give_up, drain_timeout, msg_timeout
    )
    await worker.run_tasks(url, settings, has_signals=False)


def _is_in_loop() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def is_async(handler: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine for certain. Of a lambda or a decorated function nobody knows before."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))


def check_result(name: str, result: Any) -> None:
    """Refuses what a generator function returns: nothing of it has run."""
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError(f"{name} is a generator function, whose call runs nothing: no yield in it")


async def _settle(awaitable: Awaitable[Any]) -> None:
    """Awaits an awaitable, and whatever awaitable it gives."""
    result: Any = awaitable
    while inspect.isawaitable(result):
        result = await result
    check_result("the handler", result)


class _Loop:
    """The event loop beside the threads of a worker, from the first awaitable on that a plain function returns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wait(self, awaitable: Awaitable[Any]) -> None:
        """Waits in a thread for an awaitable, and raises what it raises."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._run, args=(self._loop,), name="libmq-worker-loop", daemon=True).start()
        asyncio.run_coroutine_threadsafe(_settle(awaitable), self._loop).result()

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while True:
            try:
                loop.run_forever()
            except BaseException:
                # SystemExit of a handler leaves its loop too; it is in the handler's outcome.
                continue
            if not asyncio.all_tasks(loop):
                loop.close()
            return

    def stop(self) -> None:
        """Ends the loop; what still waits in it never goes on."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)


class _Worker:
    """What threads and tasks have in common: what becomes of a message."""

    def __init__(
        self,
        handler: Callable[[Message], Any],
        topic: str,
        channel: str,
        concurrency: int,
        max_attempts: int,
        backoff: Seconds,
        max_backoff: Seconds,
        give_up: Callable[[Message], Any] | None,
        drain_timeout: Seconds,
        msg_timeout: Seconds,
    ) -> None:
        function("the handler", handler)
        if give_up is not None:
            function("give_up", give_up)
        self._handler = handler
        self._give_up = give_up
        self._topic = topic
        self._channel = channel
        self._concurrency = count("concurrency", concurrency, 1)
        self._max_attempts = count("max_attempts", max_attempts, 0)
        self._backoff = seconds("backoff", backoff)
        self._max_backoff = seconds("max_backoff", max_backoff)
        self._drain_timeout = min(seconds("drain_timeout", drain_timeout), _SECONDS_MAX)
        self._msg_timeout = min(seconds("msg_timeout", msg_timeout), _SECONDS_MAX)
        #: Messages that are being handled, by the thread or task that does.
        self._handled: dict[int, Message] = {}
        self._stop = threading.Event()
        self._loop = _Loop()
        #: The threads of plain functions, in a loop.
        self._pool: ThreadPoolExecutor | None = None
        #: Time of the next touch.
        self._touches_at = time.monotonic() + self._msg_timeout / 3
        #: The reason for which no more messages come, if it is not that the worker is told to stop.
        self._ended: Closed | None = None

    def _call_for(self, message: Message) -> Callable[[Message], Any] | None:
        """What is to be called with a message."""
        is_too_old = 0 < self._max_attempts < message.attempts
        return self._give_up if is_too_old else self._handler

    def _failed(self, message: Message) -> None:
        delay = min(self._max_backoff, self._backoff * 2.0 ** min(message.attempts - 1, 62))
        log.exception("message %s failed, attempt %d: it comes again in %g s", message.id, message.attempts, delay)
        message.requeue(delay)

    def _call(self, message: Message) -> None:
        """Handles one message in a thread."""
        self._handled[id(message)] = message
        try:
            call = self._call_for(message)
            if call is not None:
                with _context(message):
                    result = call(message)
                    check_result("the handler", result)
                    if inspect.isawaitable(result):
                        self._loop.wait(result)
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
            call = self._call_for(message)
            if call is not None:
                with _context(message):
                    if is_async(call):
                        await _settle(call(message))
                    else:
                        await self._call_in_pool(call, message)
            message.finish()
        except asyncio.CancelledError:
            # The worker cancels only once it stops; any other is the handler's own.
            if self._stop.is_set():
                raise
            self._failed(message)
        except GeneratorExit:
            # The loop is gone.
            raise
        except BaseException:
            # SystemExit too, as in threads: a task that raises it ends the loop.
            self._failed(message)
        finally:
            del self._handled[id(message)]

    async def _call_in_pool(self, call: Callable[[Message], Any], message: Message) -> None:
        """Calls a plain function, which may block."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="libmq-worker")
        context = contextvars.copy_context()

        def guarded() -> Any:
            try:
                return context.run(call, message)
            except StopIteration as error:
                # No future holds one: whoever awaits it would wait for ever.
                raise RuntimeError("the handler raised StopIteration") from error

        result = await asyncio.get_running_loop().run_in_executor(self._pool, guarded)
        check_result("the handler", result)
        if inspect.isawaitable(result):
            await _settle(result)

    def _touch_if_due(self) -> None:
        if time.monotonic() >= self._touches_at:
            self._touch()

    def _touch(self) -> None:
        # A third: one touch may be late, and the next one is not too late.
        self._touches_at = time.monotonic() + self._msg_timeout / 3
        for message in list(self._handled.values()):
            message.touch()

    def _report(self, failures: list[Failure]) -> None:
        for failure in failures:
            text = str(failure.error)
            # Most errors begin with their broker.
            log.warning("%s", text if failure.broker in text else f"{failure.broker}: {text}")

    # Threads.

    def run_threads(self, url: str | os.PathLike[str], settings: Settings) -> None:
        from . import connect

        with _signals() as signalled:
            client = connect(url, **settings)
            try:
                self._serve(client, signalled)
            finally:
                self._loop.stop()
                client.close(timeout=self._drain_timeout)
        if self._ended is not None:
            raise self._ended

    def _serve(self, client: Client, signalled: Callable[[float], bool]) -> None:
        subscription = client.subscribe(
            self._topic, self._channel, max_in_flight=self._concurrency, msg_timeout=self._msg_timeout
        )
        threads = [
            threading.Thread(target=self._take, args=(subscription,), name=f"libmq-worker-{n}", daemon=True)
            for n in range(self._concurrency)
        ]
        for thread in threads:
            thread.start()
        step = min(self._msg_timeout / 3, 1.0)
        while not signalled(step) and any(thread.is_alive() for thread in threads):
            self._touch_if_due()
            self._report(subscription.failures())
        self._stop.set()
        deadline = threading.Thread(target=self._join, args=(threads,), daemon=True)
        deadline.start()
        ends = time.monotonic() + self._drain_timeout
        while deadline.is_alive() and (left := ends - time.monotonic()) > 0:
            deadline.join(min(step, left))
            self._touch_if_due()
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
            except Closed as error:
                self._ended = error
                return
            except Error:
                log.exception("no message can be taken")
                self._stop.wait(1.0)
                continue
            if message is not None:
                self._call(message)

    # Tasks.

    async def run_tasks(self, url: str | os.PathLike[str], settings: Settings, has_signals: bool) -> None:
        from . import aio

        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()

        def stop(number: int) -> None:
            if stopped.is_set():
                _end_at_once(number)
            stopped.set()

        for number in _STOP if has_signals else ():
            loop.add_signal_handler(number, stop, number)
        try:
            async with aio.connect(url, **settings) as client:
                await self._serve_tasks(client, stopped)
        finally:
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
            for number in _STOP if has_signals else ():
                loop.remove_signal_handler(number)
        if self._ended is not None:
            raise self._ended

    async def _serve_tasks(self, client: Any, stopped: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        subscription = client.subscribe(
            self._topic, self._channel, max_in_flight=self._concurrency, msg_timeout=self._msg_timeout
        )
        toucher = loop.create_task(self._touch_again(subscription))
        takers = [loop.create_task(self._take_async(subscription)) for _ in range(self._concurrency)]
        waiter = loop.create_task(stopped.wait())
        try:
            # One that ends by itself ends them all: no more messages come.
            await asyncio.wait([*takers, waiter], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
            self._stop.set()
            try:
                _, late = await asyncio.wait(takers, timeout=self._drain_timeout)
                if late:
                    log.warning("%d messages are still being handled: they come again", len(self._handled))
            finally:
                for task in (*takers, toucher):
                    task.cancel()
            # One that will not end is left to the end of the loop.
            await asyncio.wait((*takers, toucher), timeout=1.0)
            await subscription.close(timeout=max(1.0, self._drain_timeout))
            self._report(subscription.failures())
        for task in takers:
            if task.done() and not task.cancelled():
                task.result()

    async def _touch_again(self, subscription: Any) -> None:
        while True:
            await asyncio.sleep(self._msg_timeout / 3)
            self._touch()
            self._report(subscription.failures())

    async def _take_async(self, subscription: Any) -> None:
        while not self._stop.is_set():
            try:
                message = await subscription.next(timeout=_LOOK_EVERY)
            except Closed as error:
                self._ended = error
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


def _end_at_once(number: int) -> None:
    """Ends the process by a signal, without more ado."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@contextmanager
def _signals() -> Generator[Callable[[float], bool], None, None]:
    """Gives a function that waits up to so many seconds for a signal that ends a worker, and says whether one came.
    Where this is not the main thread, none does. A second signal ends the process.

    A handler runs between any two steps of the main thread, so it takes no lock: it writes to a pipe.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _STOP} if is_main else {}
    came = False

    def handler(number: int, _frame: Any) -> None:
        nonlocal came
        if came:
            _end_at_once(number)
        came = True
        os.write(writer, b"x")

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
run_in_loop.__module__ = "libmq.aio"
run_in_loop.__name__ = run_in_loop.__qualname__ = "run"
