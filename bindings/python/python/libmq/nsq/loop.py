"""The event loop of a program: Tornado's if it uses tornado, else asyncio's."""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
import sys
import warnings
import weakref
from typing import Any, Protocol


logger = logging.getLogger("nsq")


class _Closes(Protocol):
    async def _drain(self) -> None: ...


#: Readers and writers that run() closes at its end.
_open: weakref.WeakSet[Any] = weakref.WeakSet()
#: What callbacks returned that is to be awaited. A loop alone doesn't keep its tasks.
_later: set[asyncio.Future[None]] = set()
#: The loop of a program that has none yet.
_own: asyncio.AbstractEventLoop | None = None


def current() -> asyncio.AbstractEventLoop:
    """The loop that runs, or will."""
    global _own
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        pass
    tornado = sys.modules.get("tornado.ioloop")
    if tornado is None and "tornado" in sys.modules:
        import importlib

        tornado = importlib.import_module("tornado.ioloop")
    if tornado is not None:
        with warnings.catch_warnings():
            # Tornado asks for a loop that may not be there yet, on which Python 3.12 and 3.13 remark.
            warnings.simplefilter("ignore", DeprecationWarning)
            loop: asyncio.AbstractEventLoop = tornado.IOLoop.current().asyncio_loop
        return loop
    if _own is None or _own.is_closed():
        _own = asyncio.new_event_loop()
        asyncio.set_event_loop(_own)
    return _own


def opened(one: _Closes) -> None:
    """Has run() close ``one`` at its end."""
    _open.add(one)


def finish_later(result: Any) -> None:
    """Has the loop await what a callback returned, if that is how it runs."""
    if inspect.isawaitable(result):

        async def finish() -> None:
            try:
                await result
            except Exception:
                logger.exception("a callback failed")

        task = current().create_task(finish())
        _later.add(task)
        task.add_done_callback(_later.discard)


def run() -> None:
    """Runs readers and writers until SIGTERM or SIGINT; then what is in flight is given back, and what was
    published goes out.

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
    loop = current()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        loop.add_signal_handler(number, loop.stop)
    try:
        try:
            # Until a signal, or until the program stops the loop, as programs for Tornado do.
            loop.run_forever()
        finally:
            _drain_all(loop)
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _drain_all(loop: asyncio.AbstractEventLoop) -> None:
    """Drains readers and writers, however often the program stops the loop meanwhile."""

    async def drain() -> None:
        for outcome in await asyncio.gather(*(one._drain() for one in list(_open)), return_exceptions=True):
            if isinstance(outcome, BaseException):
                logger.error("a reader or writer was not drained: %s", outcome)

    drained = loop.create_task(drain())
    drained.add_done_callback(lambda _: loop.stop())
    while not drained.done():
        loop.run_forever()
