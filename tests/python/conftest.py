"""A real broker for each test: the binary that MQ_BIN names, on a free port and a folder of its own."""

import os
import subprocess

import pytest


@pytest.fixture
def broker(tmp_path):
    """Address of a running broker, as host:port."""
    process = subprocess.Popen(
        [os.environ["MQ_BIN"], "serve", "--tcp-address", "127.0.0.1:0", "--data-path", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        first = process.stdout.readline()
        assert first.startswith("tcp "), f"the broker is not ready: {first!r}"
        yield first.split()[1]
        process.terminate()
        assert process.wait(timeout=10) == 0, "SIGTERM is a clean stop"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
