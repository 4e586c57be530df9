"""libmq.nsq: programs written for pynsq, with another import."""

from __future__ import annotations

import asyncio
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libmq
import libmq.nsq as nsq
import pytest
from conftest import Broker

#: pynsq's example of a handler that is called with each message, as its documentation has it.
READER = """
import libmq.nsq as nsq

def handler(message):
    print(message.body.decode(), message.attempts, flush=True)
    return message.body != b"fail" or message.attempts > 2

r = nsq.Reader(message_handler=handler, nsqd_tcp_addresses=["{address}"],
               topic="t", channel="c", lookupd_poll_interval=15, requeue_delay=0, max_backoff_duration=0.1)
nsq.run()
print("ended", flush=True)
"""

#: pynsq's example of a writer that publishes now and then, on Tornado's loop.
WRITER = """
import functools
import tornado.ioloop
import libmq.nsq as nsq

answers = []

def pub_message():
    writer.pub("t", b"hello", finish_pub)

def finish_pub(conn, data):
    answers.append(data)
    print(data, flush=True)

writer = nsq.Writer(["{address}"])
tornado.ioloop.PeriodicCallback(pub_message, 50).start()
nsq.run()
"""

#: An asynchronous handler of several messages at a time, which answers later.
ASYNC = """
import libmq.nsq as nsq

held = []

def process_message(message):
    message.enable_async()
    held.append(message)
    if len(held) == 3:
        for one in held:
            assert not one.has_responded()
            one.touch()
            print(one.body.decode(), flush=True)
            one.finish()
            assert one.has_responded()
        held.clear()

nsq.Reader("t", "c", process_message, nsqd_tcp_addresses="{address}", max_in_flight=9)
nsq.run()
"""

COROUTINE = """
import asyncio
import libmq.nsq as nsq

class Mine(nsq.Reader):
    async def process_message(self, message):
        await asyncio.sleep(0.01)
        print(message.body.decode(), message.attempts, flush=True)
        if message.body == b"raise":
            raise ValueError
        return message.body != b"false"

    def giving_up(self, message):
        print("gave up", message.body.decode(), flush=True)

Mine("t", "c", lookupd_http_addresses="{address}", max_tries=1, requeue_delay=0,
     max_backoff_duration=0.05, max_in_flight=5)
nsq.run()
"""


class Program:
    """A program that prints lines."""

    def __init__(self, source: str, address: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", source.replace("{address}", address)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.seen: list[str] = []

    def until(self, *wanted: str) -> None:
        assert self.process.stdout is not None and self.process.stderr is not None
        while not set(wanted) <= set(self.seen):
            line = self.process.stdout.readline()
            assert line, f"it printed {self.seen}; {self.process.stderr.read()}"
            self.seen.append(line.strip())

    def end(self) -> str:
        """SIGTERM. Returns what it wrote to stderr."""
        self.process.terminate()
        out, errors = self.process.communicate(timeout=30)
        self.seen += out.splitlines()
        assert self.process.returncode == 0, errors
        return errors


@pytest.fixture
def start(broker: Broker) -> Callable[[str], Program]:
    return lambda source: Program(source, broker.address)


def test_a_reader_finishes_requeues_and_drains(broker: Broker, start: Callable[[str], Program]) -> None:
    with libmq.connect(broker.url) as client:
        client.publish("t", ["a", "fail", "b"])
        reader = start(READER)
        reader.until("a 1", "b 1", "fail 1", "fail 2", "fail 3")
        reader.end()
        assert reader.seen[-1] == "ended"
        assert client.subscribe("t", "c").next(timeout=0.2) is None


def test_a_writer_on_tornados_loop_calls_back_once(broker: Broker, start: Callable[[str], Program]) -> None:
    pytest.importorskip("tornado")
    writer = start(WRITER)
    writer.until("b'OK'")
    writer.end()
    with libmq.connect(broker.url) as client:
        batch = client.subscribe("t", "c").next_batch(1000, timeout=30)
        assert batch[0].text == "hello" and len(batch) >= len(writer.seen)
        batch.finish()


def test_a_handler_answers_later(broker: Broker, start: Callable[[str], Program]) -> None:
    reader = start(ASYNC)
    with libmq.connect(broker.url) as client:
        client.publish("t", ["1", "2", "3"])
        reader.until("1", "2", "3")
        reader.end()
        assert client.subscribe("t", "c").next(timeout=0.2) is None


def test_a_coroutine_handles_and_gives_up_by_lookup(tmp_path: Path) -> None:
    lookup = subprocess.Popen(
        [sys.executable, "-m", "libmq", "lookup", "--grpc-address=", "--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert lookup.stdout is not None
    tcp, http = (lookup.stdout.readline().split()[1] for _ in range(2))
    try:
        with libmq.connect("mq:memory") as client:
            client.serve(
                "--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0", "--grpc-address=",
                "--broadcast-address=127.0.0.1", "--lookupd-tcp-address", tcp,
            )  # fmt: skip
            client.publish("t", ["good", "false", "raise"])
            reader = Program(COROUTINE, f"http://{http}/lookup")
            reader.until("good 1", "false 1", "raise 1", "gave up false", "gave up raise")
            assert "ValueError" in reader.end()
            assert client.stats().topics[0].channels[0].depth == 0
    finally:
        lookup.terminate()
        assert lookup.wait(timeout=30) == 0
        lookup.stdout.close()


def test_a_plain_program_publishes_without_a_loop(broker: Broker, start: Callable[[str], Program]) -> None:
    program = start("import libmq.nsq as nsq\nnsq.Writer('{address}').pub('t', b'x')\nprint('done')")
    program.until("done")
    _, errors = program.process.communicate(timeout=30)
    assert (program.process.returncode, errors) == (0, "")
    with libmq.connect(broker.url) as client:
        message = client.subscribe("t", "c").next(timeout=30)
        assert message is not None and message.text == "x"
        message.finish()


def test_a_writer_publishes_all_kinds_and_says_what_failed(broker: Broker) -> None:
    async def main() -> None:
        writer = nsq.Writer([broker.address])
        answers: list[Any] = []
        assert await writer.pub("t", b"1") == b"OK"
        await writer.mpub("t", [b"2", b"3"], callback=lambda conn, data: answers.append(data))
        await writer.dpub("t", 10, b"4", callback=lambda conn, data: answers.append(data))
        assert answers == [b"OK", b"OK"]
        with pytest.raises(nsq.SendError, match="not sent"):
            await writer.pub("t", "text")  # type: ignore[arg-type]
        with pytest.raises(nsq.SendError, match="no spaces"):
            await writer.pub("no spaces", b"x")
        writer.close()
        with pytest.raises(nsq.Error):
            await writer.pub("t", b"late")

    asyncio.run(main())
    with libmq.connect(broker.url) as client:
        subscription = client.subscribe("t", "c")
        texts: list[str] = []
        while len(texts) < 4:
            message = subscription.next(timeout=30)
            assert message is not None
            message.finish()
            texts.append(message.text)
        assert texts == ["1", "2", "3", "4"]


def test_failures_pause_a_reader_and_successes_let_it_go_on(broker: Broker) -> None:
    async def main() -> None:
        succeeds = False
        handled: list[bytes] = []

        def handler(message: nsq.Message) -> bool:
            handled.append(message.body)
            return succeeds

        reader = nsq.Reader(
            "t", "c", handler, nsqd_tcp_addresses=[broker.address], max_in_flight=5, requeue_delay=0,
            max_tries=0, max_backoff_duration=1,
        )  # fmt: skip
        writer = nsq.Writer(broker.address)
        await writer.mpub("t", [b"%d" % number for number in range(20)])
        while not handled:
            await asyncio.sleep(0.01)
        assert reader.backoff_timer.get_interval() > 0
        succeeds = True
        while len(set(handled)) < 20 or reader.backoff_timer.get_interval() > 0:
            await writer.pub("t", b"more")
            await asyncio.sleep(0.01)
        assert not reader.is_starved()
        reader.set_max_in_flight(0)
        reader.close()
        writer.close()

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize(
    "options",
    [
        {"topic": ""},
        {"channel": None},
        {"max_in_flight": 0},
        {"max_in_flight": "1"},
        {"lookupd_poll_jitter": 2.0},
        {"nsqd_tcp_addresses": None},
        {"heartbeat_interval": 0},
        {"timeout": 1},
        {"sample_rate": 100},
        {"deflate_level": 10},
        {"msg_timeout": 0},
        {"nothing": 1},
    ],
)
def test_an_option_that_is_wrong_is_an_assertion(options: dict[str, Any]) -> None:
    given: dict[str, Any] = {"topic": "t", "channel": "c", "message_handler": print, "nsqd_tcp_addresses": "127.0.0.1:1"}
    with pytest.raises(AssertionError):
        nsq.Reader(**{**given, **options})


def test_a_message_is_answered_once() -> None:
    message = nsq.Message(b"0123456789abcdef", b"x", 1, 1)
    seen: list[str] = []

    def finished(message: nsq.Message) -> None:
        seen.append("finish")

    def touched(message: nsq.Message) -> None:
        seen.append("touch")

    message.on("finish", finished)
    message.on("touch", touched)
    message.touch()
    message.finish()
    for again in (message.finish, message.requeue, message.touch):
        with pytest.raises(AssertionError):
            again()
    assert seen == ["touch", "finish"]


def test_the_wait_grows_and_shrinks_in_steps() -> None:
    timer = nsq.BackoffTimer(0, 128)
    timer.failure()
    assert timer.get_interval() == pytest.approx(3.584)
    for _ in range(1000):
        timer.failure()
    assert timer.get_interval() == pytest.approx(128)
    for _ in range(1000):
        timer.success()
    assert timer.get_interval() == 0


def test_commands_are_bytes_of_the_protocol() -> None:
    assert nsq.pub("t", b"x") == b"PUB t\n\x00\x00\x00\x01x"
    assert nsq.mpub("t", [b"a", b"bc"]) == (
        b"MPUB t\n\x00\x00\x00\x0f\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x02bc"
    )
    assert nsq.subscribe("t", "c") == b"SUB t c\n" and nsq.ready(1) == b"RDY 1\n"
    assert nsq.requeue(b"0123456789abcdef", 5) == b"REQ 0123456789abcdef 5\n"
    frame = struct.pack(">lqH", nsq.FRAME_TYPE_MESSAGE, 7, 2) + b"0123456789abcdef" + b"body"
    kind, data = nsq.unpack_response(frame)
    message = nsq.decode_message(data)
    assert (kind, message.timestamp, message.attempts, message.id, message.body) == (
        2, 7, 2, b"0123456789abcdef", b"body",
    )  # fmt: skip
    assert nsq.valid_topic_name("a.b-c#ephemeral") and not nsq.valid_topic_name("a b")
    assert not nsq.valid_channel_name("x" * 65)


def test_what_is_missing_says_what_to_use() -> None:
    with pytest.raises(NotImplementedError, match="libmq.aio"):
        nsq.AsyncConn("127.0.0.1", 4150)
    with pytest.raises(NotImplementedError, match="libmq.connect"):
        nsq.SyncConn()
