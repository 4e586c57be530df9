"""Places that a client can be at: brokers in this process, and the program mq of the same package."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import libmq
import pytest

NSQD = Path(os.environ.get("MQ_PEERS", "")) / "nsqd"


class Broker:
    """A broker as a process of its own, on a folder that outlives it. ``python -m libmq`` runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = "127.0.0.1:0"
        self.process = self._run()

    def _run(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [
                *[sys.executable, "-m", "libmq", "serve", "--tcp-address", self.address],
                *["--http-address=127.0.0.1:0", "--grpc-address=", "--data-path", str(self.folder)],
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("tcp "), f"the broker is not ready: {first!r}"
        self.address = first.split()[1]
        return process

    def run(self) -> None:
        """Starts it again, at its address."""
        self.process = self._run()

    @property
    def url(self) -> str:
        return f"mq://{self.address}?max_reconnect_delay=100ms"

    def kill(self) -> None:
        """kill -9, and gone."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @contextmanager
    def frozen(self) -> Generator[None]:
        """It does nothing meanwhile. A signal alone lets its threads run on for a moment: this waits until all stand still."""
        self.process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "the broker has ended"
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(timeout=20) == 0, "SIGTERM is a clean stop"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running broker."""
    broker = Broker(tmp_path / "broker")
    try:
        yield broker
        broker.stop()
    finally:
        broker.kill()


@pytest.fixture
def nsqd(tmp_path: Path) -> Iterator[str]:
    """The address of NSQ's own server, where it is there: MQ_PEERS is its folder."""
    data = tmp_path / "nsqd"
    data.mkdir()
    addresses = ["--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"]
    process = subprocess.Popen([str(NSQD), *addresses, f"--data-path={data}"], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        log, address = "", None
        while address is None:
            line = process.stderr.readline()
            assert line, f"nsqd ended: {log}"
            log += line
            address = re.search(r"TCP: listening on (\S+)", line)
        # Else it waits for room in the pipe.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield address[1]
    finally:
        process.kill()
        process.wait()


@pytest.fixture(params=["memory", "folder", "broker", *(["nsqd"] if NSQD.is_file() else [])])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each of the places, by its URL."""
    if request.param == "memory":
        return "mq:memory"
    if request.param == "folder":
        return str(tmp_path / "data")
    if request.param == "nsqd":
        return f"mq://{request.getfixturevalue('nsqd')}?max_reconnect_delay=100ms"
    broker: Broker = request.getfixturevalue("broker")
    return broker.url


@pytest.fixture
def is_nsqd(url: str, request: pytest.FixtureRequest) -> bool:
    """Whether the place is NSQ's own server, which knows no extension of its protocol."""
    return "nsqd" in request.node.name


@pytest.fixture
def client(url: str) -> Iterator[libmq.Client]:
    """A client at each of the places."""
    with libmq.connect(url) as client:
        yield client


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in a process of its own, in an empty folder."""

    def run(source: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", source, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
        )
        assert result.returncode == code, result.stderr
        return result

    return run
