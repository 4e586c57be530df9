"""libmq.run(), and libmq.testing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import libmq
import libmq.testing
import pytest
from conftest import Broker

WORKER = """
import sys, time, logging
import libmq

logging.basicConfig(level=logging.WARNING)

def note(text):
    # One write: lines of threads don't mix.
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()

def work(message):
    note(f"begin {message.text} {message.attempts}")
    if message.text.startswith("fail"):
        raise ValueError(message.text)
    if message.text.startswith("exit"):
        sys.exit(message.text)
    if message.text.startswith("slow"):
        time.sleep(2.5)
    note(f"done {message.text} {message.attempts}")

async def work_async(message):
    import asyncio
    note(f"begin {message.text} {message.attempts}")
    if message.text.startswith("fail"):
        raise ValueError(message.text)
    if message.text.startswith("exit"):
        raise asyncio.CancelledError(message.text)
    if message.text.startswith("slow"):
        await asyncio.sleep(2.5)
    note(f"done {message.text} {message.attempts}")

libmq.run(
    work if sys.argv[1] == "threads" else work_async,
    topic="t", channel="c", url=sys.argv[2], concurrency=3, max_attempts=2, backoff=0.05,
    give_up=lambda message: note(f"gave up {message.text} {message.attempts}"), msg_timeout=1.5,
)
note("ended")
"""


class Worker:
    def __init__(self, kind: str, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, kind, url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.lines = self.process.stdout
        self.seen: list[str] = []

    def until(self, *wanted: str) -> None:
        """Reads lines until each of these was seen."""
        while not set(wanted) <= set(self.seen):
            line = self.lines.readline()
            assert line, f"the worker ended; it said {self.seen}"
            self.seen.append(line.strip())

    def end(self, number: int) -> str:
        """Sends a signal, and waits for the end. Returns what it wrote to stderr."""
        os.kill(self.process.pid, number)
        out, errors = self.process.communicate(timeout=30)
        self.seen += out.splitlines()
        assert self.process.returncode == 0, errors
        return errors


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_a_worker_finishes_retries_gives_up_touches_and_drains(kind: str, broker: Broker) -> None:
    with libmq.connect(broker.url) as client:
        client.publish("t", ["exit-1", "exit-2", "exit-3", "a", "fail-1", "slow-1"])
        worker = Worker(kind, broker.url)
        worker.until("done a 1", "begin fail-1 2", "gave up fail-1 3", "done slow-1 1", "gave up exit-3 3")
        # It took longer than the timeout, and came once.
        assert "begin slow-1 2" not in worker.seen
        client.publish("t", "slow-2")
        worker.until("begin slow-2 1")
        errors = worker.end(signal.SIGTERM)
        assert worker.seen[-2:] == ["done slow-2 1", "ended"], worker.seen
        assert "ValueError: fail-1" in errors and "it comes again in" in errors
        with client.subscribe("t", "c") as subscription:
            assert subscription.next(timeout=0.2) is None


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_a_worker_goes_on_once_its_broker_that_was_killed_is_back(kind: str, broker: Broker) -> None:
    bodies = [f"m{number}" for number in range(600)]
    with libmq.connect(broker.url) as client:
        client.publish("t", bodies[:400])
        worker = Worker(kind, broker.url)
        worker.until("done m100 1")
        broker.kill()
        broker.run()
        client.publish("t", bodies[400:])
        done = {line.split()[1] for line in worker.seen if line.startswith("done ")}
        while not set(bodies) <= done:
            line = worker.lines.readline()
            assert line, f"the worker ended; {len(set(bodies) - done)} are missing"
            verb, body, _ = line.split()
            assert verb in ("begin", "done"), line
            if verb == "done":
                done.add(body)
        worker.end(signal.SIGTERM)


def test_a_worker_ends_on_an_interrupt_too(broker: Broker) -> None:
    worker = Worker("threads", broker.url)
    with libmq.connect(broker.url) as client:
        client.publish("t", "a")
    worker.until("done a 1")
    worker.end(signal.SIGINT)
    assert worker.seen[-1] == "ended"


def test_a_worker_runs_in_any_thread_on_a_folder(tmp_path: Path) -> None:
    with libmq.connect(str(tmp_path)) as client:
        client.publish("t", "a")
    seen = threading.Event()
    worker = threading.Thread(
        target=lambda: libmq.run(lambda message: seen.set(), topic="t", channel="c", url=str(tmp_path)), daemon=True
    )
    worker.start()
    assert seen.wait(30)


def test_no_concurrency_is_refused() -> None:
    with pytest.raises(libmq.Invalid, match="at least 1"):
        libmq.run(print, topic="t", channel="c", url="mq:memory", concurrency=0)
    with pytest.raises(libmq.Invalid, match="drain_timeout"):
        libmq.run(print, topic="t", channel="c", url="mq:memory", drain_timeout=float("nan"))
    with pytest.raises(TypeError, match="handler"):
        libmq.run(None, topic="t", channel="c", url="mq:memory")  # type: ignore[arg-type]


def test_time_stands_still_until_it_is_moved() -> None:
    with libmq.testing.broker() as client:
        subscription = client.subscribe("t", "c", msg_timeout=60)
        client.publish("t", "x", delay=3600)
        began = time.monotonic()
        client.advance(3599)
        assert subscription.next(timeout=0) is None
        client.advance(1)
        first = subscription.next(timeout=0)
        assert first is not None
        client.advance(60)
        again = subscription.next(timeout=0)
        assert again is not None and again.attempts == 2
        again.finish()
        first.finish()
        assert [failure.message for failure in subscription.failures()] == [first.id]
        assert time.monotonic() - began < 30


def test_pytest_has_the_fixture(mq: libmq.Client) -> None:
    mq.publish("t", "x")
    assert mq.stats().topics[0].depth == 1
