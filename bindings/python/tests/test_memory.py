"""Memory of the process: flat, whatever goes through it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libmq
import libmq.aio
import pytest

#: Messages, errors or waits of each test; MQ_PYTHON_ROUNDS=1000000 is the long form.
ROUNDS = int(os.environ.get("MQ_PYTHON_ROUNDS", "100000"))
#: Most bytes that the process may grow by. A leak of 64 bytes a round would be 6.4 MB in the short form.
GROWTH = 3 << 20


def resident() -> int:
    """Bytes of this process in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


class Growth:
    """Bytes that the process has grown by since this was made."""

    def __init__(self) -> None:
        self._before = resident()

    def check(self) -> None:
        grown = resident() - self._before
        assert grown < GROWTH, f"{grown} bytes more after {ROUNDS} rounds"


def is_flat(work: Callable[[int], None]) -> None:
    """Whether memory stays as it is over so many rounds, after some that fill pools and caches."""
    work(ROUNDS // 5)
    growth = Growth()
    work(ROUNDS)
    growth.check()


# nsqd keeps a few messages back for 250 ms: so many rounds would take hours.
@pytest.mark.parametrize("url", ["memory", "folder", "broker"], indirect=True)
def test_it_is_flat_over_messages(url: str) -> None:
    with libmq.connect(url) as client, client.subscribe("t", "c", max_in_flight=1000) as subscription:

        def work(messages: int) -> None:
            for _ in range(messages // 100):
                client.publish("t", [b"x" * 100] * 98)
                client.send("t", "one").result()
                client.publish("t", "one")
                got = 0
                while got < 90:
                    batch = subscription.next_batch(90 - got, timeout=30)
                    got += len(batch)
                    for message in batch:
                        assert message.body and message.id and message.timestamp
                    batch.finish()
                while got < 100:
                    one = subscription.next(timeout=30)
                    assert one is not None and one.headers == {}
                    one.finish()
                    got += 1

        is_flat(work)


def test_it_is_flat_over_errors() -> None:
    with libmq.connect("mq:memory") as client, libmq.connect("mq://127.0.0.1:1", max_buffered_bytes=1024) as none:
        subscription = client.subscribe("t", "c")
        none.send("t", b"x" * 1000)

        def work(errors: int) -> None:
            for _ in range(errors // 5):
                for topic in ("no spaces", ""):
                    with pytest.raises(libmq.Invalid):
                        client.publish(topic, "x")
                with pytest.raises(TypeError):
                    client.publish("t", 1)  # type: ignore[call-overload]
                with pytest.raises(libmq.BufferFull):
                    none.send("t", b"x" * 1000)
                assert subscription.next(timeout=0) is None

        is_flat(work)
        with pytest.raises(libmq.Timeout):
            none.close(timeout=0)


def test_it_is_flat_over_cancelled_waits() -> None:
    async def main() -> None:
        nowhere = await libmq.aio.connect("mq://127.0.0.1:1", max_buffered_bytes=1024)
        async with libmq.aio.connect("mq:memory") as client, client.subscribe("t", "c") as subscription:

            async def work(waits: int) -> None:
                for _ in range(waits // 100):
                    tasks: list[asyncio.Future[Any]] = [
                        *(asyncio.ensure_future(subscription.next()) for _ in range(80)),
                        *(asyncio.ensure_future(nowhere.publish("t", b"x" * 100)) for _ in range(20)),
                    ]
                    await asyncio.sleep(0)
                    for task in tasks:
                        task.cancel()
                    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                        assert isinstance(outcome, asyncio.CancelledError)

            await work(ROUNDS // 5)
            growth = Growth()
            await work(ROUNDS)
            growth.check()
            # Eight bytes a wait are too few to be seen above.
            assert client._loop._wakeups.take() == []
            # Nothing was lost to one of them.
            await client.publish("t", "x")
            message = await subscription.next(timeout=30)
            assert message is not None and message.attempts == 1
            message.finish()
        await nowhere.close(timeout=0)

    asyncio.run(main())
