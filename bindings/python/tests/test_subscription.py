"""Ends of subscriptions, confirmed answers, and arguments that errors name."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import libmq
import libmq.aio
import pytest
from conftest import Broker

PATIENCE = 30

WAITS: dict[str, Callable[[libmq.Subscription], Any]] = {
    "for": lambda subscription: list(subscription),
    "batches": lambda subscription: list(subscription.batches()),
    "next": lambda subscription: subscription.next(timeout=PATIENCE),
    "next_batch": lambda subscription: subscription.next_batch(timeout=PATIENCE),
}


@pytest.mark.parametrize("deleted", ["channel", "topic"])
@pytest.mark.parametrize("wait", WAITS)
def test_a_wait_on_a_deleted_channel_raises(wait: str, deleted: str) -> None:
    with libmq.connect("mq:memory") as client:
        subscription = client.subscribe("t", "c")
        if deleted == "channel":
            client.delete_channel("t", "c")
        else:
            client.delete_topic("t")
        with pytest.raises(libmq.Closed, match="t/c has ended: its channel or topic was deleted"):
            WAITS[wait](subscription)


@pytest.mark.parametrize("wait", ["for", "batches"])
def test_a_loop_over_what_the_program_closed_ends(wait: str) -> None:
    client = libmq.connect("mq:memory")
    closed, other = client.subscribe("t", "c"), client.subscribe("t", "d")
    assert closed.close(timeout=PATIENCE)
    assert WAITS[wait](closed) == []
    client.close(timeout=PATIENCE)
    assert WAITS[wait](other) == []
    with pytest.raises(libmq.Closed, match="the subscription to t/c is closed"):
        closed.next(timeout=0)
    with pytest.raises(libmq.Closed, match="t/d has ended: its client is closed"):
        other.next(timeout=0)


def test_a_loop_in_asyncio_over_a_deleted_channel_raises() -> None:
    async def main() -> None:
        async with libmq.aio.connect("mq:memory") as client:
            subscription = client.subscribe("t", "c")
            await client.delete_channel("t", "c")
            with pytest.raises(libmq.Closed):
                async for message in subscription:
                    raise AssertionError(f"{message} of a deleted channel")
            with pytest.raises(libmq.Closed):
                async for batch in subscription.batches():
                    raise AssertionError(f"{batch} of a deleted channel")
            closed = client.subscribe("t", "c")
            await closed.close()
            async for batch in closed.batches():
                raise AssertionError(f"{batch} of a closed subscription")

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_answers_are_confirmed_by_the_broker(client: libmq.Client, is_nsqd: bool) -> None:
    with client.subscribe("t", "c") as subscription:
        client.publish("t", ["a", "b"])
        for _ in range(2):
            message = subscription.next(timeout=PATIENCE)
            assert message is not None
            message.finish()
        if is_nsqd:
            with pytest.raises(libmq.Unsupported):
                subscription.flush(timeout=PATIENCE)
        else:
            assert subscription.flush(timeout=timedelta(seconds=PATIENCE))
            assert subscription.failures() == []


def test_a_message_published_right_after_subscribing_comes_to_a_new_channel(client: libmq.Client) -> None:
    # The first channel gets what waited before it; the connection that publishes is there.
    client.subscribe("t", "first").close()
    client.publish("t", "before")
    for number in range(10):
        with client.subscribe("t", f"new{number}") as subscription:
            client.publish("t", str(number))
            message = subscription.next(timeout=PATIENCE)
            assert message is not None and message.text == str(number)
            message.finish()


def test_in_a_loop_it_comes_once_the_subscription_is_entered(url: str) -> None:
    async def main() -> None:
        async with libmq.aio.connect(url) as client:
            async with client.subscribe("t", "first"):
                await client.publish("t", "before")
            for number in range(10):
                async with client.subscribe("t", f"new{number}") as subscription:
                    await client.publish("t", str(number))
                    message = await subscription.next(timeout=PATIENCE)
                    assert message is not None and message.text == str(number)
                    message.finish()

    asyncio.run(main())


def test_a_message_that_is_too_large_is_left_to_another_subscriber(client: libmq.Client, is_nsqd: bool) -> None:
    small = client.subscribe("t", "c", max_message_bytes=10, msg_timeout=1)
    if is_nsqd:
        with pytest.raises(libmq.Unsupported, match="large messages"):
            small.next(timeout=PATIENCE)
        return
    client.publish("t", ["more than ten", "small"])
    message = small.next(timeout=PATIENCE)
    assert message is not None and message.text == "small"
    message.finish()
    assert small.close(timeout=PATIENCE)
    message = client.subscribe("t", "c").next(timeout=PATIENCE)
    assert message is not None and (message.text, message.attempts) == ("more than ten", 1)
    message.finish()


def test_bytes_in_flight_are_bounded_but_for_a_message_that_is_alone(client: libmq.Client, is_nsqd: bool) -> None:
    bounded = client.subscribe("t", "c", max_in_flight_bytes=10)
    if is_nsqd:
        with pytest.raises(libmq.Unsupported, match="bytes in flight"):
            bounded.next(timeout=PATIENCE)
        return
    client.publish("t", ["1234", "5678", "larger than ten"])
    one, two = bounded.next(timeout=PATIENCE), bounded.next(timeout=PATIENCE)
    assert one is not None and two is not None
    one.finish()
    assert bounded.next(timeout=0.05) is None
    two.finish()
    alone = bounded.next(timeout=PATIENCE)
    assert alone is not None and alone.text == "larger than ten"
    alone.finish()
    with pytest.raises(OverflowError, match="max_in_flight_bytes"):
        client.subscribe("t", "c", max_in_flight_bytes=-1)


def test_a_signal_ends_the_wait_for_a_broker_that_says_nothing() -> None:
    class Seen(Exception):
        pass

    def handle(*_: Any) -> None:
        raise Seen

    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = libmq.connect(f"mq://127.0.0.1:{silent.getsockname()[1]}")
        before = signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            began = time.monotonic()
            with pytest.raises(Seen):
                client.subscribe("t", "c")
            assert time.monotonic() - began < 4
        finally:
            signal.signal(signal.SIGALRM, before)


def test_a_broker_out_of_reach_is_a_failure_of_the_connection() -> None:
    # Nothing listens on port 1.
    with libmq.connect("mq://127.0.0.1:1") as client, client.subscribe("t", "c") as subscription:
        failures: list[libmq.Failure] = []
        while not failures:
            assert subscription.next(timeout=0.01) is None
            failures = subscription.failures()
        error = failures[0].error
        assert isinstance(error, libmq.Unreachable) and isinstance(error, ConnectionError) and error.retry
        assert (failures[0].broker, failures[0].message, error.broker) == ("127.0.0.1:1", None, "127.0.0.1:1")


def test_a_flush_has_all_of_its_time(broker: Broker) -> None:
    with libmq.connect(broker.url) as client, client.subscribe("t", "c") as subscription:
        client.publish("t", "a")
        message = subscription.next(timeout=PATIENCE)
        assert message is not None
        with broker.frozen():
            message.finish()
            began = time.monotonic()
            assert not subscription.flush(timeout=0.3)
            assert time.monotonic() - began >= 0.3
        assert subscription.flush(timeout=PATIENCE)


def test_answers_are_confirmed_in_a_loop_too(url: str, is_nsqd: bool) -> None:
    async def main() -> None:
        async with libmq.aio.connect(url) as client, client.subscribe("t", "c") as subscription:
            await client.publish("t", "a")
            message = await subscription.next()
            assert message is not None
            message.finish()
            if is_nsqd:
                with pytest.raises(libmq.Unsupported):
                    await subscription.flush()
            else:
                assert await subscription.flush(timeout=PATIENCE)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_start_that_is_none_is_refused_in_words() -> None:
    with libmq.connect("mq:memory") as client:
        with pytest.raises(OverflowError, match="start is -5"):
            client.subscribe("t", "c", start=-5)
        with pytest.raises(libmq.Invalid, match="without a time zone"):
            client.subscribe("t", "c", start=datetime(2026, 1, 1))
        with pytest.raises(TypeError, match="start is a word"):
            client.subscribe("t", "c", start=1.5)  # type: ignore[arg-type]
        with client.subscribe("t", "c", start=datetime.now(timezone.utc)) as subscription:
            assert repr(subscription) == "<libmq.Subscription t/c>"


#: Calls, and the error that names their argument.
WRONG: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda c: c.publish("t", "x", headers={1: "a"}), TypeError, "a header's name is str, not int"),
    (lambda c: c.publish("t", "x", headers=["abc"]), TypeError, "pairs of a name and a value"),
    (lambda c: c.publish("t", "x", headers=5), TypeError, "headers are a dict"),
    (lambda c: c.publish("t", "x", delay=-1), ValueError, "delay is -1 s"),
    (lambda c: c.publish("t", "x", delay="1"), TypeError, "delay is seconds or a timedelta, not str"),
    (lambda c: c.publish(5, "x"), TypeError, "topic"),
    (lambda c: c.flush(timeout="1"), TypeError, "timeout is seconds"),
    (lambda c: c.close(timeout=-1), ValueError, "timeout is -1 s"),
    (lambda c: c.subscribe("t", "c", max_in_flight=-1), OverflowError, "max_in_flight is -1"),
    (lambda c: c.subscribe("t", "c", max_in_flight="1"), TypeError, "max_in_flight is a whole number, not str"),
    (lambda c: c.subscribe("t", "c", sample_rate=300), OverflowError, "sample_rate is 300"),
    (lambda c: c.subscribe("t", "c", msg_timeout=-1), ValueError, "msg_timeout is -1 s"),
    (lambda c: c.subscribe("t", "c").next(timeout="1"), TypeError, "timeout is seconds"),
    (lambda c: c.subscribe("t", "c").next_batch(max=-1), OverflowError, "max is -1"),
    (lambda c: c.subscribe("t", "c").batches(max="1"), TypeError, "max is a whole number"),
    (lambda c: c.subscribe("t", "c").set_max_in_flight(2**40), OverflowError, "max is 1099511627776"),
    (lambda _: libmq.connect("mq:memory", publish_timeout=-1), ValueError, "publish_timeout is -1 s"),
]


@pytest.mark.parametrize(("call", "error", "words"), WRONG)
def test_an_argument_that_is_wrong_is_named(
    call: Callable[[Any], Any], error: type[Exception], words: str
) -> None:
    with libmq.connect("mq:memory") as client, pytest.raises(error, match=words):
        call(client)


@pytest.mark.parametrize(("timeout", "error"), [("0.2", TypeError), ("x", TypeError), (-1, ValueError)])
def test_a_timeout_in_a_loop_is_checked_as_without_one(timeout: Any, error: type[Exception]) -> None:
    async def main() -> None:
        async with libmq.aio.connect("mq:memory") as client:
            subscription = client.subscribe("t", "c")
            with pytest.raises(error, match="timeout is"):
                await subscription.next(timeout=timeout)
            with pytest.raises(error, match="timeout is"):
                await subscription.next_batch(timeout=timeout)
            with pytest.raises(error, match="timeout is"):
                await subscription.flush(timeout=timeout)
            with pytest.raises(error, match="timeout is"):
                await subscription.close(timeout=timeout)

    asyncio.run(main())


def test_a_folder_may_be_bytes(tmp_path: Any) -> None:
    folder = tmp_path / "data"
    with libmq.connect(bytes(folder)) as client:  # type: ignore[arg-type]
        client.publish("t", "a")
    assert folder.is_dir()
