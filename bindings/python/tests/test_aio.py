"""The client of event loops: asyncio's, and uvloop's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import libmq
import libmq.aio
import pytest
import uvloop

PATIENCE = 30

Main = Coroutine[Any, Any, None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Main], None]:
    """Runs a coroutine in a loop of each kind."""

    def in_loop(main: Main) -> None:
        loop = request.param()
        try:
            loop.run_until_complete(asyncio.wait_for(main, PATIENCE))
        finally:
            loop.close()

    return in_loop


async def take(subscription: libmq.aio.Subscription, count: int) -> list[tuple[str, int]]:
    """Texts and attempts of so many messages, which are finished."""
    taken: list[tuple[str, int]] = []
    async for message in subscription:
        message.finish()
        taken.append((message.text, message.attempts))
        if len(taken) == count:
            break
    return taken


def test_what_is_published_comes_in_order(url: str, run: Callable[[Main], None]) -> None:
    async def main() -> None:
        async with libmq.aio.connect(url) as client:
            async with client.subscribe("t", "c") as subscription:
                assert (await client.publish("t", "0")).broker
                assert len(await client.publish("t", ["1", "2"])) == 2
                await asyncio.gather(*(client.publish("t", str(number)) for number in range(3, 500)))
                await client.flush()
                assert await take(subscription, 500) == [(str(number), 1) for number in range(500)]
                assert await subscription.next(timeout=0.01) is None
                assert await subscription.next(timeout=timedelta(milliseconds=1)) is None
                for wrong in (-1, float("nan")):
                    with pytest.raises(libmq.Invalid):
                        await subscription.next(timeout=wrong)
                pending = client.send("other", "x")
                await client.flush()
                assert pending.state == "stored"
                assert len(await subscription.next_batch(timeout=0.01)) == 0
                await client.publish("t", ["a", "b"])
                got = 0
                async for batch in subscription.batches(max=10):
                    got += len(batch)
                    batch.finish()
                    if got == 2:
                        break
                assert subscription.failures() == []
            with pytest.raises(libmq.Closed):
                await subscription.next()
            async for message in subscription:
                raise AssertionError(f"{message} of a closed subscription")

    run(main())


def test_a_cancelled_wait_takes_no_message_with_it(url: str, run: Callable[[Main], None]) -> None:
    async def main() -> None:
        async with libmq.aio.connect(url) as client:
            subscription = client.subscribe("t", "c")
            taken: list[tuple[str, int]] = []
            for number in range(1000):
                waits = [asyncio.ensure_future(subscription.next()) for _ in range(2)]
                if number % 3 == 0:
                    await asyncio.sleep(0)
                if number % 2 == 0:
                    await client.publish("t", str(number))
                if number % 5 == 0:
                    # The wait may be over already: its message is taken then.
                    await asyncio.sleep(0)
                for wait in waits:
                    wait.cancel()
                for outcome in await asyncio.gather(*waits, return_exceptions=True):
                    if isinstance(outcome, libmq.Message):
                        taken.append((outcome.text, outcome.attempts))
                        outcome.finish()
            while len(taken) < 500:
                taken += await take(subscription, 1)
            assert sorted(taken, key=lambda one: int(one[0])) == [(str(number), 1) for number in range(0, 1000, 2)]

    run(main())


def test_a_cancelled_publish_is_withdrawn(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        client = await libmq.aio.connect("mq://127.0.0.1:1", max_buffered_bytes=1024)
        for _ in range(100):
            with pytest.raises((TimeoutError, asyncio.TimeoutError)):
                await asyncio.wait_for(client.publish("t", b"x" * 1000), 0.002)
        # None of them is left, nor takes room.
        await asyncio.wait_for(client.flush(), PATIENCE)
        await client.close(timeout=0)

    run(main())


def test_a_publish_ends_at_its_own_timeout_and_is_not_sent(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        client = await libmq.aio.connect("mq://127.0.0.1:1", max_buffered_bytes=1024)
        with pytest.raises(libmq.Timeout, match="127.0.0.1:1"):
            await client.publish("t", b"x" * 1000, timeout=0.01)
        held = client.send("t", b"x" * 1000)
        with pytest.raises(libmq.BufferFull):
            await client.publish("t", b"x" * 1000, timeout=0.01)
        with pytest.raises(libmq.Invalid, match="timeout"):
            await client.publish("t", "x", timeout=-1)
        assert held.state == "queued"
        with pytest.raises(libmq.Timeout):
            await client.close(timeout=0)
        async with libmq.aio.connect("mq:memory") as memory:
            assert (await memory.publish("t", "x", timeout=PATIENCE)).offset is not None

    run(main())


def test_publishers_wait_for_room(url: str, run: Callable[[Main], None]) -> None:
    async def main() -> None:
        async with libmq.aio.connect(url, max_buffered_bytes=4096) as client:
            receipts = await asyncio.gather(*(client.publish("t", b"x" * 1000) for _ in range(200)))
            assert len(receipts) == 200
            assert len(await take(client.subscribe("t", "c"), 200)) == 200

    run(main())


class EarlyLoop(asyncio.SelectorEventLoop):
    """A loop whose timers fire before its clock has come to their time, as a loop with a coarse clock may do."""

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, **kwargs: Any
    ) -> asyncio.TimerHandle:
        return super().call_later(max(0.0, delay - 0.001), callback, *args, **kwargs)


@pytest.mark.parametrize("make", [EarlyLoop, uvloop.new_event_loop], ids=["early", "uvloop"])
def test_a_timeout_that_fires_before_the_clock_is_there_ends_the_wait(
    make: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        async with libmq.aio.connect("mq:memory") as client:
            subscription = client.subscribe("t", "c")
            # uvloop's timers and clock count whole milliseconds, and a timer's are rounded down.
            for timeout in (0.0, 0.0004, 0.0014, 0.0024):
                assert await subscription.next(timeout) is None
                assert len(await subscription.next_batch(timeout=timeout)) == 0

    loop = make()
    try:
        # A thread of its own for the patience: the loop's timers are what is tested.
        task = loop.create_task(main())
        patience = threading.Timer(PATIENCE, loop.call_soon_threadsafe, (task.cancel,))
        patience.start()
        loop.run_until_complete(task)
        patience.cancel()
    finally:
        loop.close()


def test_a_flood_of_messages_leaves_other_tasks_their_turn(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        async with libmq.aio.connect("mq:memory") as client:
            await client.publish("t", ["x"] * 10_000)
            subscription = client.subscribe("t", "c", max_in_flight=10_000)
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            task = asyncio.ensure_future(other())
            await take(subscription, 10_000)
            task.cancel()
            assert turns > 100

    run(main())


def test_topics_and_channels_and_a_test_clock(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        async with libmq.aio.connect("mq:memory", test_clock=True) as client:
            await client.create_channel("t", "c")
            await client.pause_channel("t", "c")
            await client.publish("t", "x", delay=3600)
            assert (await client.stats()).topics[0].channels[0].name == "c"
            settings = await client.channel_settings("t", "c")
            settings.max_attempts, settings.dead_letter_topic = 5, "t.dead"
            await client.set_channel_settings("t", "c", settings)
            assert (await client.channel_settings("t", "c")).dead_letter_topic == "t.dead"
            with pytest.raises(libmq.Invalid, match="dead_letter_topic"):
                await client.set_channel_settings("t", "c", libmq.ChannelSettings(max_attempts=5))
            topic = await client.topic_settings("t")
            topic.max_messages = 5
            await client.set_topic_settings("t", topic)
            assert (await client.topic_settings("t")).max_messages == 5
            with pytest.raises(libmq.Invalid, match="7 days"):
                await client.set_topic_settings("t", libmq.TopicSettings(dedup_window=1e6))
            await client.unpause_channel("t", "c")
            subscription = client.subscribe("t", "c")
            assert await subscription.next(timeout=0) is None
            client.advance(3600)
            assert await take(subscription, 1) == [("x", 1)]
            await client.delete_topic("t")

    run(main())


def test_a_client_of_another_loop_is_refused() -> None:
    client = asyncio.run(_connected())

    async def publish() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await client.publish("t", "x")

    asyncio.run(publish())


async def _connected() -> libmq.aio.Client:
    return await libmq.aio.connect("mq:memory")
