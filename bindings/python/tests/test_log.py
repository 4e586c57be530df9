"""Log lines of clients: under ``libmq.client``, from threads of Python."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import libmq
import libmq.aio
import pytest
from conftest import Broker

Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[logging.LogRecord]]:
    """The lines of clients until now."""
    caplog.set_level(logging.INFO, logger="libmq.client")
    return lambda: [record for record in caplog.records if record.name == "libmq.client"]


def has(records: list[logging.LogRecord], level: int, words: str) -> bool:
    return any(record.levelno == level and words in record.getMessage() for record in records)


def test_a_broker_in_this_process_logs_on_the_threads_that_call_it(
    lines: Callable[[], list[logging.LogRecord]], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "nsqd.dat").touch()
    client = libmq.connect(folder, durability="sync", publish_timeout=0.2)
    assert has(lines(), logging.WARNING, "nsqd.dat")
    # Moved, not removed file by file while the broker makes new ones.
    folder.rename(tmp_path / "elsewhere")
    deadline = time.monotonic() + 30
    # A thread of the broker notices it.
    while not has(lines(), logging.ERROR, "was moved, removed"):
        assert time.monotonic() < deadline
        with pytest.raises(libmq.Error):
            client.publish("t", "x")
    assert {record.thread for record in lines()} == {threading.get_ident()}
    try:
        client.close(timeout=5)
    except libmq.Error:
        # Its folder is gone.
        pass


def test_connections_are_logged_by_calls_that_wait(
    lines: Callable[[], list[logging.LogRecord]], broker: Broker
) -> None:
    with libmq.connect(broker.url) as client, client.subscribe("t", "c") as subscription:
        deadline = time.monotonic() + 30
        while not has(lines(), logging.INFO, f"connected to {broker.address}"):
            assert time.monotonic() < deadline
            assert subscription.next(timeout=0.05) is None
        broker.kill()
        while not has(lines(), logging.WARNING, f"the connection to {broker.address} ended"):
            assert time.monotonic() < deadline
            assert subscription.next(timeout=0.05) is None
        assert {record.thread for record in lines()} == {threading.get_ident()}
        broker.run()


def test_connections_are_logged_in_a_loop(lines: Callable[[], list[logging.LogRecord]]) -> None:
    async def main() -> None:
        # Nothing listens on port 1.
        async with libmq.aio.connect("mq://127.0.0.1:1?max_reconnect_delay=10ms&publish_timeout=1ms") as client:
            deadline = time.monotonic() + 30
            while not has(lines(), logging.WARNING, "127.0.0.1:1"):
                assert time.monotonic() < deadline
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.publish("t", "x"), timeout=0.05)

    asyncio.run(main())


def test_a_program_that_sets_up_no_logging_prints_no_line(program: Program) -> None:
    result = program(
        """
import libmq, logging, pathlib, sys
folder = pathlib.Path("data")
folder.mkdir()
(folder / "nsqd.dat").touch()
libmq.connect(folder).close()
assert "libmq._log" in sys.modules
"""
    )
    assert result.stderr == ""


def test_a_program_without_logging_does_not_load_it(program: Program) -> None:
    program(
        """
import libmq, pathlib, sys
folder = pathlib.Path("data")
folder.mkdir()
(folder / "nsqd.dat").touch()
libmq.connect(folder).close()
assert not {"logging", "libmq._log"} & set(sys.modules)
"""
    )
