"""Handlers and hooks of every kind: what they return is awaited, and what they raise makes the message come again."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libmq
import libmq.aio
import libmq.nsq as nsq
import pytest
from conftest import Broker

PATIENCE = 30


def end() -> None:
    """Ends the worker of this process."""
    os.kill(os.getpid(), signal.SIGTERM)


def work(handler: Callable[[libmq.Message], Any], folder: Path, **options: Any) -> None:
    """Runs a worker until its handler ends it. One that nobody ends fails the test by what was not handled."""
    patience = threading.Timer(PATIENCE, end)
    patience.start()
    try:
        libmq.run(handler, topic="t", channel="c", url=folder, **options)
    finally:
        patience.cancel()


class Handled:
    """Handles three messages asynchronously, the second at its second attempt, and ends the worker."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def handle(self, message: libmq.Message) -> None:
        await asyncio.sleep(0)
        if message.text == "b" and message.attempts == 1:
            raise ValueError("not yet")
        self.seen.append(message.text)
        if len(self.seen) == 3:
            end()

    async def __call__(self, message: libmq.Message) -> None:
        await self.handle(message)

    async def nested(self, message: libmq.Message) -> Any:
        return self.handle(message)

    def decorated(self) -> Callable[[libmq.Message], Any]:
        @functools.wraps(self.handle)
        def handler(*arguments: Any) -> Any:
            return self.handle(*arguments)

        return handler


KINDS: dict[str, Callable[[Handled], Callable[[libmq.Message], Any]]] = {
    "method": lambda handled: handled.handle,
    "object": lambda handled: handled,
    "lambda": lambda handled: lambda message: handled.handle(message),
    "decorated": lambda handled: handled.decorated(),
    "partial": lambda handled: functools.partial(handled.handle),
    "nested": lambda handled: handled.nested,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_that_returns_an_awaitable_is_awaited(kind: str, tmp_path: Path) -> None:
    handled = Handled()
    with libmq.connect(tmp_path / "data") as client:
        client.publish("t", ["a", "b", "c"])
    work(KINDS[kind](handled), tmp_path / "data", backoff=0.01)
    assert sorted(handled.seen) == ["a", "b", "c"]
    with libmq.connect(tmp_path / "data") as client:
        assert client.stats().topics[0].channels[0].depth == 0


@pytest.mark.parametrize("kind", ["function", "lambda", "coroutine function"])
def test_a_handler_of_which_nothing_ran_finishes_no_message(kind: str, tmp_path: Path) -> None:
    def generator(message: libmq.Message) -> Any:
        yield message

    async def nested(message: libmq.Message) -> Any:
        return generator(message)

    handler: dict[str, Callable[[libmq.Message], Any]] = {
        "function": generator,
        "lambda": lambda message: generator(message),
        "coroutine function": nested,
    }
    given_up: list[int] = []

    def give_up(message: libmq.Message) -> None:
        given_up.append(message.attempts)
        end()

    with libmq.connect(tmp_path / "data") as client:
        client.publish("t", "a")
    work(handler[kind], tmp_path / "data", backoff=0.01, max_attempts=2, give_up=give_up)
    assert given_up == [3]


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_a_hook_that_returns_an_awaitable_is_awaited(kind: str, tmp_path: Path) -> None:
    def fail(message: libmq.Message) -> None:
        raise ValueError(message.text)

    async def fail_async(message: libmq.Message) -> None:
        raise ValueError(message.text)

    given_up: list[str] = []

    async def give_up(message: libmq.Message) -> None:
        await asyncio.sleep(0)
        given_up.append(message.text)
        end()

    def plain_give_up(message: libmq.Message) -> Any:
        return give_up(message)

    with libmq.connect(tmp_path / "data") as client:
        client.publish("t", "a")
    work(
        fail if kind == "threads" else fail_async,
        tmp_path / "data",
        backoff=0,
        max_attempts=1,
        give_up=plain_give_up,
    )
    assert given_up == ["a"]


@pytest.mark.parametrize("kind", ["plain", "lambda", "async"])
def test_a_handler_that_exits_ends_no_worker(kind: str, tmp_path: Path) -> None:
    seen: list[int] = []

    def handle(message: libmq.Message) -> None:
        seen.append(message.attempts)
        if len(seen) == 2:
            return end()
        sys.exit(5)

    async def handle_async(message: libmq.Message) -> None:
        handle(message)

    kinds: dict[str, Callable[[libmq.Message], Any]] = {
        "plain": handle,
        "lambda": lambda message: handle_async(message),
        "async": handle_async,
    }
    with libmq.connect(tmp_path / "data") as client:
        client.publish("t", "a")
    work(kinds[kind], tmp_path / "data", backoff=0)
    assert seen == [1, 2]


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_a_worker_whose_channel_is_deleted_says_so(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = libmq.connect("mq:memory")

    def connect(*_: Any, **__: Any) -> libmq.Client:
        return client

    monkeypatch.setattr(libmq, "connect", connect)
    monkeypatch.setattr(libmq.aio, "_connect", connect)

    def handle(message: libmq.Message) -> None:
        message.finish()
        client.delete_channel("t", "c")

    async def handle_async(message: libmq.Message) -> None:
        handle(message)

    client.publish("t", "a")
    with pytest.raises(libmq.Closed, match="t/c has ended: its channel or topic was deleted"):
        libmq.run(handle if kind == "threads" else handle_async, topic="t", channel="c", url="mq:memory")


def test_a_second_signal_ends_a_worker_at_once(broker: Broker) -> None:
    for kind in ("def", "async def"):
        program = f"""
import libmq, sys, threading
{kind} handle(message):
    print("begin", flush=True)
    {"await asyncio.Event().wait()" if "async" in kind else "threading.Event().wait()"}
import asyncio
libmq.run(handle, topic="t-{kind[:3]}", channel="c", url=sys.argv[1])
"""
        with libmq.connect(broker.url) as client:
            client.publish(f"t-{kind[:3]}", "a")
        worker = subprocess.Popen([sys.executable, "-c", program, broker.url], stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None and worker.stdout.readline() == "begin\n"
        # Two kinds: of one kind the system may keep one.
        worker.send_signal(signal.SIGINT)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) in (-signal.SIGINT, -signal.SIGTERM)
        worker.stdout.close()


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("max_attempts", -1, ValueError),
        ("max_attempts", None, TypeError),
        ("give_up", 5, TypeError),
        ("concurrency", "4", TypeError),
        ("concurrency", 0, ValueError),
        ("backoff", "1", TypeError),
        ("max_backoff", float("nan"), ValueError),
        ("drain_timeout", -1, ValueError),
        ("msg_timeout", True, TypeError),
    ],
)
def test_an_argument_of_a_worker_that_is_wrong_is_named(argument: str, value: Any, error: type[Exception]) -> None:
    given: dict[str, Any] = {"topic": "t", "channel": "c", "url": "mq:memory", argument: value}
    with pytest.raises(error, match=argument):
        libmq.run(print, **given)


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_worker_in_a_loop_that_runs_is_refused_with_what_to_use(kind: str) -> None:
    async def settle(message: libmq.Message) -> None:
        del message

    handle = settle if kind == "async" else print

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"await libmq\.aio\.run\(\)"):
            libmq.run(handle, topic="t", channel="c", url="mq:memory")

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_worker_in_a_loop_drains_when_it_is_cancelled(kind: str, tmp_path: Path) -> None:
    seen: list[str] = []

    async def main() -> None:
        begun, go_on, plain_goes_on = asyncio.Event(), asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        async def handle_async(message: libmq.Message) -> None:
            begun.set()
            await go_on.wait()
            seen.append(message.text)

        def handle(message: libmq.Message) -> None:
            # It blocks, and the loop goes on.
            loop.call_soon_threadsafe(begun.set)
            assert plain_goes_on.wait(PATIENCE)
            seen.append(message.text)

        worker = loop.create_task(
            libmq.aio.run(
                handle if kind == "plain" else handle_async, topic="t", channel="c", url=tmp_path / "data"
            )
        )
        await begun.wait()
        worker.cancel()
        await asyncio.sleep(0)
        assert not worker.done()
        go_on.set()
        plain_goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await worker

    with libmq.connect(tmp_path / "data") as client:
        client.publish("t", "a")
    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert seen == ["a"]
    with libmq.connect(tmp_path / "data") as client:
        channel = client.stats().topics[0].channels[0]
        assert (channel.depth, channel.in_flight, channel.deferred) == (0, 0, 0)


def test_a_failure_names_its_broker_once(caplog: pytest.LogCaptureFixture) -> None:
    from libmq._worker import _Worker

    worker = _Worker(print, "t", "c", 1, 0, 1, 1, None, 1, 60)
    error = libmq.Unreachable("127.0.0.1:1: Connection refused")
    with caplog.at_level(logging.WARNING, "libmq"):
        worker._report([libmq.Failure("127.0.0.1:1", None, error), libmq.Failure("./data", "7", libmq.Error("late"))])
    assert caplog.messages == ["127.0.0.1:1: Connection refused", "./data: late"]


# libmq.nsq.


def test_methods_of_a_reader_may_be_coroutine_functions(broker: Broker) -> None:
    seen: list[str] = []
    allowed = {"disabled": 0}

    class Reader(nsq.Reader):
        async def preprocess_message(self, message: nsq.Message) -> nsq.Message:
            await asyncio.sleep(0)
            return nsq.Message(message.id, message.body.upper(), message.timestamp, message.attempts)

        async def validate_message(self, message: nsq.Message) -> bool:
            await asyncio.sleep(0)
            return message.body != b"INVALID"

        async def process_message(self, message: nsq.Message) -> bool:
            await asyncio.sleep(0)
            seen.append(f"{message.body.decode()} {message.attempts}")
            return message.body == b"good"

        async def giving_up(self, message: nsq.Message) -> None:
            await asyncio.sleep(0)
            seen.append(f"gave up {message.body.decode()}")

        async def disabled(self) -> bool:
            allowed["disabled"] += 1
            return False

    async def main() -> None:
        writer = nsq.Writer(broker.address)
        called = asyncio.Event()

        async def callback(connection: Any, data: Any) -> None:
            await asyncio.sleep(0)
            assert data == b"OK"
            called.set()

        writer.mpub("t", [b"invalid", b"good", b"bad"], callback)
        await called.wait()
        reader = Reader(
            "t", "c", nsqd_tcp_addresses=[broker.address], requeue_delay=0, max_tries=1, max_backoff_duration=0.01
        )
        while "gave up bad" not in seen:
            await asyncio.sleep(0.01)
        reader.close()
        writer.close()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert sorted(seen) == ["bad 1", "gave up bad", "good 1"] and allowed["disabled"] >= 3


def test_a_listener_that_is_a_coroutine_function_is_awaited() -> None:
    async def main() -> None:
        called = asyncio.Event()

        async def finished(message: nsq.Message) -> None:
            await asyncio.sleep(0)
            called.set()

        message = nsq.Message(b"0123456789abcdef", b"x", 1, 1)
        message.on("finish", finished)
        message.finish()
        await called.wait()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


STOPS = {
    "tornado": "import tornado.ioloop\ndef stop(): tornado.ioloop.IOLoop.current().stop()",
    "tornado later": "import tornado.ioloop\ndef stop(): tornado.ioloop.IOLoop.current().call_later(0.01, stop_now)\n"
    "def stop_now(): tornado.ioloop.IOLoop.current().stop()",
    "asyncio": "import asyncio\ndef stop(): asyncio.get_running_loop().stop()",
    "exit": "def stop(): raise SystemExit(3)",
}


@pytest.mark.parametrize("kind", STOPS)
def test_a_program_that_stops_the_loop_returns_from_run_and_drains(kind: str, broker: Broker) -> None:
    program = f"""
import sys
{STOPS[kind]}
import libmq.nsq as nsq
writer = nsq.Writer(sys.argv[1])
def handle(message):
    writer.pub("late", b"x")
    stop()
    return True
reader = nsq.Reader("t", "c", handle, nsqd_tcp_addresses=[sys.argv[1]], requeue_delay=0)
nsq.run()
print("returned", reader._in_flight)
"""
    with libmq.connect(broker.url) as client:
        client.publish("t", "a")
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", program, broker.address], capture_output=True, text=True, timeout=60
        )
        if kind == "exit":
            assert ended.returncode == 3, ended.stderr
        else:
            assert (ended.returncode, ended.stdout, ended.stderr) == (0, "returned 0\n", "")
        late = client.subscribe("late", "c").next(timeout=PATIENCE)
        assert late is not None and late.text == "x"
        late.finish()
