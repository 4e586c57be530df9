"""The client of threads, at every place."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from typing import Any

import libmq
import pytest
from conftest import Broker

PATIENCE = 30


def take(subscription: libmq.Subscription, count: int) -> list[str]:
    """Texts of so many messages, which are finished."""
    texts: list[str] = []
    while len(texts) < count:
        message = subscription.next(timeout=PATIENCE)
        assert message is not None, f"only {texts} came"
        message.finish()
        texts.append(message.text)
    return texts


def test_what_is_published_in_every_way_comes_in_order(client: libmq.Client, is_nsqd: bool) -> None:
    one = client.publish("t", b"1")
    assert (one.offset is None) == is_nsqd and not one.duplicate and one.broker
    two = client.publish("t", ["2", bytearray(b"3"), memoryview(b"4")])
    assert len(two) == 2 + 1 and all(isinstance(receipt, libmq.Receipt) for receipt in two)
    pending = client.send("t", "5")
    assert pending.result(timeout=PATIENCE).broker == one.broker
    assert (pending.state, pending.done()) == ("stored", True)
    many = client.send("t", (str(number) for number in (6, 7)))
    assert len(many.result(timeout=timedelta(seconds=PATIENCE))) == 2
    assert client.publish("t", []) == []
    assert client.flush(timeout=PATIENCE) == 0
    with client.subscribe("t", "c") as subscription:
        assert take(subscription, 7) == ["1", "2", "3", "4", "5", "6", "7"]
        assert subscription.next(timeout=0) is None
        assert subscription.failures() == []


def test_a_message_says_what_it_is(client: libmq.Client, url: str) -> None:
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    client.publish("t", '{"a": [1, "ä"]}')
    message = client.subscribe("t", "c").next(timeout=PATIENCE)
    assert message is not None
    assert message.json() == {"a": [1, "ä"]} and message.text == '{"a": [1, "ä"]}'
    assert message.body == message.text.encode()
    assert (message.attempts, len(message.id), message.headers, message.raw_headers) == (1, 16, {}, [])
    assert before < message.timestamp <= datetime.now(timezone.utc)
    assert message.timestamp_ns // 1000 == round(message.timestamp.timestamp() * 1e6)
    assert message.broker in url or url == "mq:memory"
    assert not message.is_answered
    message.finish()
    message.requeue()
    message.touch()
    assert message.is_answered


def test_a_body_that_is_not_text_says_so(client: libmq.Client) -> None:
    client.publish("t", b"\xff\x00")
    message = client.subscribe("t", "c").next(timeout=PATIENCE)
    assert message is not None and message.body == b"\xff\x00"
    with pytest.raises(UnicodeDecodeError):
        message.text
    message.finish()


def test_a_message_as_context_manager_finishes_or_comes_again(client: libmq.Client) -> None:
    client.publish("t", "x")
    subscription = client.subscribe("t", "c")
    message = subscription.next(timeout=PATIENCE)
    assert message is not None
    with pytest.raises(KeyError), message:
        raise KeyError("x")
    again = subscription.next(timeout=PATIENCE)
    assert again is not None and (again.id, again.attempts) == (message.id, 2)
    with again:
        pass
    assert subscription.next(timeout=0.05) is None


def test_a_batch_is_answered_as_one_or_one_by_one(client: libmq.Client) -> None:
    subscription = client.subscribe("t", "c")
    assert len(subscription.next_batch(timeout=0.01)) == 0
    client.publish("t", [str(number) for number in range(6)])
    got = 0
    batches = subscription.batches(max=6)
    while got < 6:
        batch = next(batches)
        assert batch.bodies == [b"%d" % number for number in range(got, got + len(batch))]
        assert batch[0].body == batch.bodies[0] and batch[-1].text == batch.bodies[-1].decode()
        with pytest.raises(IndexError):
            batch[len(batch)]
        for message in batch:
            if int(message.text) % 2:
                message.requeue()
        batch.finish()
        assert all(message.is_answered for message in batch)
        got += len(batch)
    assert sorted(take(subscription, 3)) == ["1", "3", "5"]
    assert subscription.next(timeout=0) is None


def test_a_touch_starts_the_timeout_anew() -> None:
    with libmq.connect("mq:memory", test_clock=True) as client:
        subscription = client.subscribe("t", "c", msg_timeout=60)
        client.publish("t", ["a", "b", "c"])
        batch, alone = subscription.next_batch(max=2, timeout=PATIENCE), subscription.next(timeout=PATIENCE)
        assert alone is not None
        for one_by_one in (False, True):
            client.advance(40)
            if one_by_one:
                for message in batch:
                    message.touch()
            else:
                batch.touch()
            alone.touch()
            client.advance(40)
            assert subscription.next(timeout=0) is None
            batch.touch()
            alone.touch()
        client.advance(61)
        assert sorted(take(subscription, 3)) == ["a", "b", "c"]


def test_what_is_not_answered_comes_again(client: libmq.Client) -> None:
    client.publish("t", ["a", "b", "c"])
    # nsqd delivers what a connection leaves behind once its time is over.
    with client.subscribe("t", "c", msg_timeout=1) as subscription:
        held = subscription.next(timeout=PATIENCE)
        del held
        batch = subscription.next_batch(1, timeout=PATIENCE)
        del batch
    with client.subscribe("t", "c") as subscription:
        assert sorted(take(subscription, 3)) == ["a", "b", "c"]


def test_bodies_of_a_list_come_whole(client: libmq.Client) -> None:
    class Own(bytes):
        pass

    bodies: list[bytes | bytearray | str] = [b"0", Own(b"1"), "zwölf", b"3" * 5000, bytearray(b"4"), b"5"]
    client.publish("t", bodies)
    client.send("t", bodies * 20)
    with client.subscribe("t", "c", max_in_flight=1000) as subscription:
        assert sorted(take(subscription, 21 * 6)) == sorted(["0", "1", "zwölf", "3" * 5000, "4", "5"] * 21)


def test_headers_and_ids_are_kept_or_refused_by_name(client: libmq.Client, is_nsqd: bool) -> None:
    headers: dict[str, str | bytes] = {"colour": "red", "size": b"\xff"}
    if is_nsqd:
        with pytest.raises(libmq.Unsupported, match="127.0.0.1") as raised:
            client.publish("t", "x", headers=headers, id="order-1")
        assert isinstance(raised.value, NotImplementedError)
        assert raised.value.broker is not None and "127.0.0.1" in raised.value.broker
        return
    first = client.publish("t", "x", headers=headers, id="order-1")
    second = client.publish("t", "x", headers=headers, id="order-1")
    sent = client.send("t", "x", id="order-1")
    assert (second.offset, second.duplicate, sent.result().duplicate) == (first.offset, True, True)
    assert (sent.state, sent.done()) == ("duplicate", True)
    assert [receipt.duplicate for receipt in client.publish("t", ["y", "z"], id=["1", "order-1"])] == [False, True]
    client.publish("t", "pairs", headers=[("a", "1"), ("a", b"2")])
    subscription = client.subscribe("t", "c")
    message = subscription.next(timeout=PATIENCE)
    assert message is not None and message.headers == {"colour": "red", "size": "\ufffd"}
    assert message.raw_headers == [("colour", b"red"), ("size", b"\xff")]
    message.finish()
    assert take(subscription, 1) == ["y"]
    message = subscription.next(timeout=PATIENCE)
    assert message is not None and message.headers == {"a": "2"} and message.offset is not None
    message.finish()


def test_a_delayed_message_comes_later(client: libmq.Client) -> None:
    began = time.monotonic()
    client.publish("t", "later", delay=timedelta(milliseconds=300))
    subscription = client.subscribe("t", "c")
    assert take(subscription, 1) == ["later"]
    assert time.monotonic() - began >= 0.3


#: Calls, the errors that they raise, and words of those. The client is Any: no type checker lets them pass.
WRONG: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda client: client.publish("no spaces", "x"), ValueError, "no spaces"),
    (lambda client: client.publish("t", ""), ValueError, "empty"),
    (lambda client: client.publish("t", 5), TypeError, "not int"),
    (lambda client: client.publish("t", ["x", 5]), TypeError, "not int"),
    (lambda client: client.publish("t", [b"x", 5]), TypeError, "not int"),
    (lambda client: client.publish("t", [b"x", b""]), ValueError, "empty"),
    (lambda client: client.publish("t", {"a": 1}), TypeError, "json.dumps"),
    (lambda client: client.publish("t", "x", id=""), ValueError, "leave it out"),
    (lambda client: client.publish("t", "x", delay=-1), ValueError, "at least 0"),
    (lambda client: client.publish("t", "x", delay=float("nan")), ValueError, "at least 0"),
    (lambda client: client.publish("t", ["x", "y"], id="1"), ValueError, "list of ids"),
    (lambda client: client.publish("t", ["x", "y"], id=["1"]), ValueError, "2 bodies have 1 ids"),
    (lambda client: client.publish("t", "x", headers={"a": 1}), TypeError, "a header"),
    (lambda client: client.subscribe("t", "c", max_in_flight=0), ValueError, "max_in_flight"),
    (lambda client: client.subscribe("t", "c", msg_timeout=0.1), ValueError, "msg_timeout"),
    (lambda client: client.subscribe("t", "c", start="middle"), ValueError, "earliest"),
]


@pytest.mark.parametrize(("call", "error", "words"), WRONG)
def test_what_is_not_valid_is_refused_in_words(
    client: libmq.Client, call: Callable[[Any], Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call(client)


@pytest.mark.parametrize(
    ("url", "settings", "words"),
    [
        ("localhost:4150", {}, "mq://localhost:4150"),
        ("mq:memory?x=1", {}, "publish_timeout"),
        ("mq:memory", {"publish_timeout": 0}, "publish_timeout"),
        ("mq:memory", {"nothing": 1}, "max_buffered_bytes"),
        ("mq:memory", {"tls_insecure": "perhaps"}, "true or false"),
    ],
)
def test_a_url_or_setting_that_is_none_is_named(url: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(libmq.Invalid, match=words) as raised:
        libmq.connect(url, **settings)
    assert not raised.value.retry


def test_a_delay_of_more_than_a_year_is_refused_to_a_publish_and_a_failure_of_a_requeue(
    client: libmq.Client, is_nsqd: bool
) -> None:
    for call in (client.publish, client.send):
        for delay in (366 * 86_400 + 1, timedelta(days=367), float("inf")):
            with pytest.raises(libmq.Invalid, match="at most a year"):
                call("t", "x", delay=delay)
    subscription = client.subscribe("t", "c")
    client.publish("t", "a")
    message = subscription.next(timeout=30)
    assert message is not None
    message.requeue(delay=float("inf"))
    # Behind the answer, so that it has been taken when this comes.
    client.publish("t", "b")
    assert take(subscription, 1) == ["b"]
    if is_nsqd:
        # It cuts the delay.
        assert subscription.failures() == []
        return
    [failure] = subscription.failures()
    assert failure.message == message.id and isinstance(failure.error, libmq.Refused)
    assert "ms are allowed" in str(failure.error)


def test_a_folder_is_open_once(tmp_path: Any) -> None:
    with libmq.connect(str(tmp_path)):
        with pytest.raises(libmq.Locked, match="by process") as raised:
            libmq.connect(str(tmp_path))
        assert raised.value.retry
    libmq.connect(tmp_path).close()


def test_a_channel_begins_where_it_is_told_to() -> None:
    with libmq.connect("mq:memory") as client:
        receipts = client.publish("t", ["a", "b"])
        client.create_channel("t", "keeper")
        offset = receipts[1].offset
        assert offset is not None
        for channel, start, texts in [
            ("earliest", "earliest", ["a", "b"]),
            ("offset", offset, ["b"]),
            ("time", datetime.now(timezone.utc) - timedelta(hours=1), ["a", "b"]),
            ("latest", "latest", []),
        ]:
            subscription = client.subscribe("t", channel, start=start)  # type: ignore[arg-type]
            assert subscription.is_new
            assert take(subscription, len(texts)) == texts
            assert subscription.next(timeout=0) is None


def test_topics_and_channels_are_changed_and_counted() -> None:
    with libmq.connect("mq:memory") as client:
        client.create_topic("t")
        client.pause_topic("t")
        client.publish("t", "x")
        client.create_channel("t", "c")
        topic = client.stats().topics[0]
        assert (topic.name, topic.depth, topic.paused, topic.channels[0].depth) == ("t", 1, True, 0)
        client.unpause_topic("t")
        client.pause_channel("t", "c")
        assert client.subscribe("t", "c").next(timeout=0) is None
        assert client.stats().topics[0].channels[0].depth == 1
        client.empty_channel("t", "c")
        client.unpause_channel("t", "c")
        client.delete_channel("t", "c")
        client.empty_topic("t")
        client.delete_topic("t")
        assert client.stats().topics == []
        with pytest.raises(libmq.Refused, match="there is no topic t") as raised:
            client.pause_topic("t")
        assert (raised.value.broker, raised.value.retry) == ("mq:memory", False)


def test_a_topics_settings_are_read_and_changed_as_one(tmp_path: Any) -> None:
    now = libmq.TopicSettings("sync", 10, 1000, 0.25, "drop-oldest", 600.0, 5)
    with libmq.connect(tmp_path) as client:
        client.create_topic("t")
        assert client.topic_settings("t") == libmq.TopicSettings("flush", 0, 0, 0.0, "refuse", None, None)
        age, window = timedelta(milliseconds=250), timedelta(minutes=10)
        settings = libmq.TopicSettings("sync", 10, 1000, age, "drop-oldest", window, 5)
        client.set_topic_settings("t", settings)
        assert client.topic_settings("t") == now
        wrong: list[tuple[Any, type[Exception], str]] = [
            (libmq.TopicSettings("disk"), libmq.Invalid, '"memory", "flush", "sync"'),  # type: ignore[arg-type]
            (libmq.TopicSettings(b"sync"), TypeError, "durability is str, not bytes"),  # type: ignore[arg-type]
            (libmq.TopicSettings(overflow=None), TypeError, "overflow is str, not NoneType"),  # type: ignore[arg-type]
            (libmq.TopicSettings(overflow="drop"), libmq.Invalid, '"refuse", "drop-oldest"'),  # type: ignore[arg-type]
            (libmq.TopicSettings(max_messages=-1), OverflowError, "max_messages is -1"),
            (libmq.TopicSettings(max_bytes=1.5), TypeError, "max_bytes"),  # type: ignore[arg-type]
            (libmq.TopicSettings(max_age=-1), libmq.Invalid, "max_age"),
            (libmq.TopicSettings(dedup_window=8 * 86_400), libmq.Invalid, "7 days"),
            (libmq.TopicSettings(dedup_window="1"), TypeError, "dedup_window"),  # type: ignore[arg-type]
            (libmq.TopicSettings(dedup_max_ids=0), libmq.Invalid, "dedup max ids 0"),
            (libmq.ChannelSettings(), TypeError, "libmq.TopicSettings, not ChannelSettings"),
        ]
        for settings, error, words in wrong:
            with pytest.raises(error, match=words):
                client.set_topic_settings("t", settings)
        with pytest.raises(libmq.Refused, match="no topic missing"):
            client.topic_settings("missing")
        with pytest.raises(libmq.Refused, match="no topic missing"):
            client.set_topic_settings("missing", libmq.TopicSettings())
    with pytest.raises(libmq.Closed):
        client.topic_settings("t")
    with libmq.connect(tmp_path) as client:
        assert client.topic_settings("t") == now
        client.set_topic_settings("t", libmq.TopicSettings(dedup_window=0))
        assert client.topic_settings("t") == libmq.TopicSettings("sync", dedup_window=0), "the level stays"
        receipts = [client.publish("t", "x", id="1") for _ in range(2)]
        assert not any(receipt.duplicate for receipt in receipts)


def test_a_topic_at_its_limit_refuses_or_drops_as_its_settings_say() -> None:
    with libmq.connect("mq:memory") as client:
        client.create_channel("t", "c")
        client.set_topic_settings("t", libmq.TopicSettings(max_messages=1))
        client.publish("t", "a")
        with pytest.raises(libmq.Refused) as refused:
            client.publish("t", "b")
        assert refused.value.retry
        client.set_topic_settings("t", libmq.TopicSettings(max_messages=1, overflow="drop-oldest"))
        client.publish("t", "c")
        assert take(client.subscribe("t", "c"), 1) == ["c"]


def test_a_channels_settings_are_read_and_changed_as_one() -> None:
    with libmq.connect("mq:memory") as client:
        client.create_channel("t", "c")
        assert client.channel_settings("t", "c") == libmq.ChannelSettings() == libmq.ChannelSettings(0, None, 1.0)
        settings = libmq.ChannelSettings(65_535, "t.dead", timedelta(milliseconds=250))
        client.set_channel_settings("t", "c", settings)
        now = libmq.ChannelSettings(65_535, "t.dead", 0.25)
        assert client.channel_settings("t", "c") == now
        wrong: list[tuple[Any, type[Exception], str]] = [
            (libmq.ChannelSettings(5), libmq.Invalid, "dead_letter_topic"),
            (libmq.ChannelSettings(0, "t.dead"), libmq.Invalid, "max_attempts"),
            (libmq.ChannelSettings(5, "t"), libmq.Invalid, "own topic"),
            (libmq.ChannelSettings(5, "no name"), ValueError, "dead_letter_topic: .*no name"),
            (libmq.ChannelSettings(5, b"t.dead"), TypeError, "not bytes"),  # type: ignore[arg-type]
            (libmq.ChannelSettings(65_536, "t.dead"), OverflowError, "max_attempts is 65536"),
            (libmq.ChannelSettings(-1, "t.dead"), OverflowError, "max_attempts is -1"),
            (libmq.ChannelSettings(1.5, "t.dead"), TypeError, "max_attempts"),  # type: ignore[arg-type]
            (libmq.ChannelSettings(redelivery_delay=-1), libmq.Invalid, "redelivery_delay"),
            (libmq.ChannelSettings(redelivery_delay="1"), TypeError, "redelivery_delay"),  # type: ignore[arg-type]
            ({"max_attempts": 5}, TypeError, "libmq.ChannelSettings, not dict"),
        ]
        for settings, error, words in wrong:
            with pytest.raises(error, match=words):
                client.set_channel_settings("t", "c", settings)
        assert client.channel_settings("t", "c") == now
        client.set_channel_settings("t", "c", libmq.ChannelSettings(redelivery_delay=0))
        assert client.channel_settings("t", "c") == libmq.ChannelSettings(0, None, 0)
        with pytest.raises(libmq.Refused, match="no channel other"):
            client.channel_settings("t", "other")
        with pytest.raises(libmq.Refused, match="no topic missing"):
            client.set_channel_settings("missing", "c", libmq.ChannelSettings())
    with pytest.raises(libmq.Closed):
        client.channel_settings("t", "c")


def dead_letters_of(client: libmq.Client) -> int:
    topics = {topic.name: topic for topic in client.stats().topics}
    return topics["t"].channels[0].dead_lettered


@pytest.mark.parametrize("is_remote", [False, True], ids=["in this process", "over the network"])
def test_what_cannot_be_done_ends_in_the_dead_letter_topic(is_remote: bool) -> None:
    with libmq.connect("mq:memory") as broker:
        served = broker.serve("--tcp-address=127.0.0.1:0", "--http-address=", "--grpc-address=")
        broker.create_channel("t", "c")
        broker.set_channel_settings("t", "c", libmq.ChannelSettings(2, "t.dead"))
        with libmq.connect(f"mq://{served['tcp']}") if is_remote else nullcontext(broker) as client:
            work, dead = client.subscribe("t", "c"), client.subscribe("t.dead", "operator")
            client.publish("t", "poison", headers={"colour": "green"})
            for attempt in (1, 2):
                assert dead_letters_of(broker) == 0
                message = work.next(timeout=PATIENCE)
                assert message is not None and message.attempts == attempt
                with pytest.raises(ValueError, match="poison"), message:
                    raise ValueError(message.text)
            letter = dead.next(timeout=PATIENCE)
            assert letter is not None and letter.text == "poison"
            assert letter.headers["colour"] == "green"
            assert letter.headers["mq-dead-letter-topic"] == "t"
            assert letter.headers["mq-dead-letter-channel"] == "c"
            assert letter.headers["mq-dead-letter-attempts"] == "2"
            letter.finish()
            # It is in its topic before its channel is rid of it.
            while dead_letters_of(broker) == 0:
                time.sleep(0)
            assert dead_letters_of(broker) == 1
            if is_remote:
                # They say what does it instead.
                instead = r"`mq settings` does, or (GET|PUT) /(topic|channel)/config over HTTP"
                with pytest.raises(libmq.Unsupported, match=instead):
                    client.topic_settings("t")
                with pytest.raises(libmq.Unsupported, match=instead):
                    client.set_topic_settings("t", libmq.TopicSettings(durability="memory"))
                with pytest.raises(libmq.Unsupported, match=instead):
                    client.channel_settings("t", "c")
                with pytest.raises(libmq.Unsupported, match=instead):
                    client.set_channel_settings("t", "c", libmq.ChannelSettings())


def test_a_broker_in_this_process_is_served_to_others() -> None:
    with libmq.connect("mq:memory") as client:
        served = client.serve("--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0")
        assert set(served) == {"tcp", "http", "grpc"}
        client.publish("t", "from here")
        other = libmq.connect(f"mq://{served['tcp']}")
        other.publish("t", "from there")
        subscription = other.subscribe("t", "c")
        assert take(subscription, 2) == ["from here", "from there"]
        with urllib.request.urlopen(f"http://{served['http']}/stats?format=json") as stats:
            assert [topic["topic_name"] for topic in json.load(stats)["topics"]] == ["t"]
        for flags, words in [
            (["--data-path=x"], "open already"),
            (["--nothing"], "--nothing"),
            (["--tcp-address", served["tcp"]], "in use"),
        ]:
            with pytest.raises(libmq.Invalid, match=words):
                client.serve(*flags)
    # The client is closed, and nobody listens there any more.
    other.close(timeout=0)
    with pytest.raises(OSError):
        socket.create_connection(tuple(served["tcp"].rsplit(":", 1)), timeout=5)  # type: ignore[arg-type]
    with pytest.raises(libmq.Unsupported):
        libmq.connect("mq://127.0.0.1:1").serve()


def test_a_block_that_is_left_without_its_broker_ends_and_says_so() -> None:
    with pytest.raises(libmq.Timeout, match="1 publishes"):
        with libmq.connect("mq://127.0.0.1:1?publish_timeout=100ms") as client:
            client.send("t", "x")
    with pytest.raises(KeyError):
        with libmq.connect("mq://127.0.0.1:1", publish_timeout=0.1) as client:
            client.send("t", "x")
            raise KeyError


def test_a_closed_client_takes_no_more_and_wakes_who_waits(client: libmq.Client) -> None:
    subscription = client.subscribe("t", "c")
    ended: list[libmq.Message] = []
    thread = threading.Thread(target=lambda: ended.extend(subscription))
    thread.start()
    client.send("t", "x")
    while not ended:
        thread.join(0.01)
    client.close(timeout=PATIENCE)
    thread.join(PATIENCE)
    assert not thread.is_alive() and [message.text for message in ended] == ["x"]
    client.close()
    with pytest.raises(libmq.Closed):
        client.publish("t", "x")
    with pytest.raises(libmq.Closed):
        subscription.next()


def test_threads_share_a_subscription(client: libmq.Client) -> None:
    client.publish("t", [str(number) for number in range(500)])
    subscription = client.subscribe("t", "c")
    seen: list[str] = []

    def work() -> None:
        while (message := subscription.next(timeout=0.5)) is not None:
            seen.append(message.text)
            message.finish()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(seen, key=int) == [str(number) for number in range(500)]


def test_a_publish_without_a_broker_times_out_and_says_why() -> None:
    client = libmq.connect("mq://127.0.0.1:1", publish_timeout=0.2, max_buffered_bytes=2048)
    with pytest.raises(TimeoutError, match="127.0.0.1:1") as raised:
        client.publish("t", "x")
    assert isinstance(raised.value, libmq.Timeout) and raised.value.retry
    pending = client.send("t", b"x" * 2000)
    assert (pending.state, client.flush(timeout=0)) == ("queued", 1)
    with pytest.raises(libmq.Timeout):
        pending.result(timeout=0.01)
    with pytest.raises(libmq.BufferFull):
        client.send("t", b"x" * 2000)
    with pytest.raises(libmq.Timeout, match="1 publishes have no outcome"):
        client.close(timeout=0.1)


def test_a_publish_ends_at_its_own_timeout_and_is_not_sent() -> None:
    # Without it this would wait for a day.
    client = libmq.connect("mq://127.0.0.1:1", publish_timeout=24 * 3600)
    with pytest.raises(libmq.Timeout, match="127.0.0.1:1"):
        client.publish("t", "x", timeout=0.01)
    assert client.flush(timeout=0) == 0
    for wrong, error in [(-1, ValueError), ("soon", TypeError)]:
        with pytest.raises(error, match="timeout"):
            client.publish("t", "x", timeout=wrong)  # type: ignore[call-overload]
    with libmq.connect("mq:memory") as memory:
        assert memory.publish("t", "x", timeout=PATIENCE).offset is not None
        assert len(memory.publish("t", ["y", "z"], timeout=timedelta(minutes=1))) == 2


def test_nothing_acknowledged_is_lost_when_the_broker_is_killed(broker: Broker) -> None:
    stored: set[str] = set()
    with libmq.connect(broker.url) as client:
        subscription = client.subscribe("t", "c")
        pending: dict[str, libmq.Pending] = {}
        for turn in range(3):
            for number in range(300):
                body = f"{turn}-{number}"
                pending[body] = client.send("t", body)
                if number == 150:
                    # These have their outcomes; what follows may be on its way when the broker goes.
                    assert client.flush(timeout=PATIENCE) == 0
                if number == 200:
                    broker.kill()
                    broker.run()
        assert client.flush(timeout=PATIENCE) == 0
        stored = {body for body, sent in pending.items() if sent.state == "stored"}
        assert all(sent.state in ("stored", "unknown") for sent in pending.values())
        seen: set[str] = set()
        while not stored <= seen:
            message = subscription.next(timeout=PATIENCE)
            assert message is not None, f"{len(stored - seen)} are lost"
            message.finish()
            seen.add(message.text)
    assert len(stored) > 150


def test_a_signal_is_seen_by_every_call_that_waits() -> None:
    class Seen(Exception):
        pass

    def handler(*_: Any) -> None:
        raise Seen

    before = signal.signal(signal.SIGALRM, handler)
    client = libmq.connect("mq://127.0.0.1:1")
    try:
        subscription = client.subscribe("t", "c")
        pending = client.send("t", "x")
        for wait in (
            lambda: client.publish("t", "x"),
            pending.result,
            client.flush,
            subscription.next,
            subscription.next_batch,
            lambda: next(iter(subscription)),
            lambda: next(subscription.batches()),
        ):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Seen):
                wait()
        # The publish that was interrupted is withdrawn; the other waits.
        assert client.flush(timeout=0) == 1
    finally:
        signal.signal(signal.SIGALRM, before)
        with pytest.raises(libmq.Timeout):
            client.close(timeout=0)
