"""Messages through threads, tasks and processes at once: a ledger says what became of each."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path


import ledger
import libmq

PATIENCE = 120
#: Messages of one publisher; there are two each of threads, tasks, forked and spawned processes.
EACH = 3000




def test_every_message_is_finished_once_through_threads_tasks_and_processes(tmp_path: Path) -> None:
    published = {
        f"{way}{which}-{number}"
        for way in ("thread", "task", "fork", "spawn")
        for which in range(2)
        for number in range(EACH)
    }
    assert len(published) == 24_000
    with libmq.connect(str(tmp_path)) as broker:
        served = broker.serve("--tcp-address=127.0.0.1:0", "--http-address=", "--grpc-address=")
        url = f"mq://{served['tcp']}"
        broker.create_channel("t", "c")
        over = threading.Event()
        with multiprocessing.Manager() as manager:
            over_there = manager.Event()
            with (
                ProcessPoolExecutor(3, multiprocessing.get_context("fork")) as forked,
                ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as spawned,
                ThreadPoolExecutor(8) as threads,
            ):
                publishers: list[Future[None]] = []
                consumers: list[Future[ledger.Taken]] = []
                for pool, way in ((forked, "fork"), (spawned, "spawn")):
                    consumers.append(pool.submit(ledger.consume_until, url, over_there))
                    publishers += [pool.submit(ledger.publish, url, f"{way}{n}", EACH) for n in range(2)]
                consumers.append(threads.submit(ledger.consume, url, over.is_set))
                consumers.append(threads.submit(asyncio.run, ledger.consume_in_tasks(url, over.is_set)))
                publishers += [threads.submit(ledger.publish, url, f"thread{n}", EACH) for n in range(2)]
                publishers += [
                    threads.submit(asyncio.run, ledger.publish_in_tasks(url, f"task{n}", EACH)) for n in range(2)
                ]
                try:
                    for publisher in publishers:
                        publisher.result(timeout=PATIENCE)
                    deadline = time.monotonic() + PATIENCE
                    while broker.stats().topics[0].channels[0].finished < len(published):
                        assert time.monotonic() < deadline, broker.stats()
                        time.sleep(0.05)
                finally:
                    over.set()
                    over_there.set()
                taken = [consumer.result(timeout=PATIENCE) for consumer in consumers]
        channel = broker.stats().topics[0].channels[0]
    everything = [one for each in taken for one in each]
    assert sorted(text for text, _ in everything) == sorted(published)
    assert {attempts for _, attempts in everything} == {1}
    assert all(taken), "each kind of consumer had its share"
    assert (channel.message_count, channel.finished, channel.requeued, channel.timed_out) == (24_000, 24_000, 0, 0)
    assert (channel.depth, channel.in_flight, channel.deferred) == (0, 0, 0)
