"""A real broker for each test: the binary that MQ_BIN names, on a free port and a folder of its own."""

import os
import subprocess

import pytest


class Broker:
    """A broker process, on a folder that outlives it."""

    def __init__(self, folder, flags=()):
        self.folder, self.flags = folder, flags
        self.address = self.http = "127.0.0.1:0"
        self.run()

    def run(self):
        """Starts it, again if it ran before: on the same ports and folder."""
        self.process = subprocess.Popen(
            [
                *[os.environ["MQ_BIN"], "serve", "--tcp-address", self.address],
                *["--http-address", self.http, "--data-path", str(self.folder / "data")],
                *self.flags,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        first = self.process.stdout.readline()
        assert first.startswith("tcp "), f"the broker is not ready: {first!r}"
        self.address = first.split()[1]
        self.http = self.process.stdout.readline().removeprefix("http ").strip()

    def kill(self):
        """kill -9, and gone."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        """SIGTERM must be a clean stop."""
        self.process.terminate()
        assert self.process.wait(timeout=10) == 0, "SIGTERM is a clean stop"


@pytest.fixture
def start_broker(tmp_path):
    """Starts brokers that end with the test."""
    brokers = []

    def start(*flags):
        folder = tmp_path / str(len(brokers))
        folder.mkdir()
        brokers.append(Broker(folder, flags))
        return brokers[-1]

    try:
        yield start
        for broker in brokers:
            broker.stop()
    finally:
        for broker in brokers:
            broker.kill()


@pytest.fixture
def broker(start_broker):
    """Address of a running broker, as host:port."""
    return start_broker().address
