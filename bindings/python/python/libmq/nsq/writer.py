"""Publishers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from .. import _libmq, connect
from .. import _errors as libmq_errors
from ..aio import _Loop
from . import loop
from .errors import ConnectionClosedError, Error, SendError
from .options import Options, addresses

logger = logging.getLogger("nsq.writer")

Callback = Callable[[Any, Any], Any]


class Writer:
    """Publishes to any of some brokers, right after it was made, and again after a lost connection.

    A publish returns a future with the broker's answer, and calls ``callback(conn, data)`` once: ``data`` is
    ``b"OK"``, or an Error. Without a loop that runs, publishes go out all the same.

    >>> import libmq, libmq.nsq as nsq
    >>> with libmq.connect("mq:memory") as broker:
    ...     served = broker.serve("--tcp-address=127.0.0.1:0", "--http-address=", "--grpc-address=")
    ...     writer = nsq.Writer([served["tcp"]])
    ...     future = writer.pub("orders", b"one pizza")
    ...     writer.close()
    ...     broker.stats().topics[0].depth
    1
    """

    def __init__(
        self,
        nsqd_tcp_addresses: str | Iterable[str],
        reconnect_interval: float = 15.0,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._options = Options(kwargs)
        brokers = addresses("nsqd_tcp_addresses", nsqd_tcp_addresses)
        assert brokers, "nsqd_tcp_addresses is needed"
        assert isinstance(reconnect_interval, (int, float)) and reconnect_interval >= 0
        self.nsqd_tcp_addresses = brokers
        self.name = name
        self._loop = loop.current()
        self._operations: _Loop | None = None
        settings = self._options.settings()
        settings["max_reconnect_delay"] = min(max(float(reconnect_interval), 0.01), 3600.0)
        self._client = connect(f"{self._options.scheme()}://{','.join(brokers)}", **settings)
        loop.opened(self)

    def pub(self, topic: str, msg: bytes, callback: Callback | None = None) -> asyncio.Future[Any]:
        """Publishes one message."""
        return self._publish(topic, msg, None, callback)

    def mpub(self, topic: str, msg: list[bytes] | bytes, callback: Callback | None = None) -> asyncio.Future[Any]:
        """Publishes messages as one batch, all or nothing."""
        bodies = [msg] if isinstance(msg, bytes) else list(msg)
        return self._publish(topic, bodies, None, callback)

    def dpub(
        self, topic: str, delay_ms: int, msg: bytes, callback: Callback | None = None
    ) -> asyncio.Future[Any]:
        """Publishes one message that comes after ``delay_ms`` milliseconds."""
        return self._publish(topic, msg, delay_ms / 1000, callback)

    def close(self) -> None:
        """Waits up to 5 seconds until everything is stored. Blocks; in a loop, run() does it at its end."""
        self._client.close(timeout=5.0)

    def _publish(
        self, topic: str, body: bytes | list[bytes], delay: float | None, callback: Callback | None
    ) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        # Whoever has a callback need not look at the future.
        future.add_done_callback(lambda future: future.cancelled() or future.exception())
        try:
            bodies = body if isinstance(body, list) else [body]
            assert all(isinstance(one, bytes) for one in bodies), "a message is bytes"
            pending = self._client.send(topic, body, delay=delay)
        except (AssertionError, libmq_errors.Error) as error:
            self._loop.call_soon(self._settle, future, callback, SendError("the message was not sent", error))
            return future
        self._loop.call_soon(self._watch, pending, future, callback)
        return future

    def _watch(self, pending: _libmq.Pending, future: asyncio.Future[Any], callback: Callback | None) -> None:
        if self._operations is None:
            self._operations = _Loop()
        task = asyncio.ensure_future(self._operations.run(pending._operation()))

        def done(task: asyncio.Future[Any]) -> None:
            if task.cancelled():
                future.cancel()
                return
            error = task.exception()
            if error is None:
                self._settle(future, callback, b"OK")
            elif isinstance(error, libmq_errors.Unknown):
                self._settle(future, callback, ConnectionClosedError(str(error)))
            else:
                self._settle(future, callback, SendError("the message was not stored", error))

        task.add_done_callback(done)

    def _settle(self, future: asyncio.Future[Any], callback: Callback | None, data: bytes | Error) -> None:
        if not future.done():
            if isinstance(data, Error):
                future.set_exception(data)
            else:
                future.set_result(data)
        if callback is not None:
            try:
                loop.finish_later(callback(self, data))
            except Exception:
                logger.exception("the callback of a publish failed")

    async def _drain(self) -> None:
        """Waits until everything is stored, at most 5 seconds."""
        await self._loop.run_in_executor(None, self._client.close, 5.0)
