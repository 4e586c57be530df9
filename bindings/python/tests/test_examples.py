"""The programs of examples/python that stand on this package."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from pathlib import Path

import libmq
from conftest import Broker

EXAMPLES = Path(__file__).parents[3] / "examples" / "python"


def run(name: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def start(name: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(EXAMPLES / name), *arguments], stdout=subprocess.PIPE, text=True)


def test_the_embedded_queue_keeps_its_jobs_between_runs(tmp_path: Path) -> None:
    folder = str(tmp_path / "jobs")
    assert run("embedded_queue.py", folder, "add", "cat", "dog") == "added 2\n"
    assert run("embedded_queue.py", folder, "work") == "done cat, attempt 1\ndone dog, attempt 1\n"
    assert run("embedded_queue.py", folder, "work") == ""


def test_what_is_no_number_is_a_dead_letter_after_three_attempts(tmp_path: Path) -> None:
    lines = run("dead_letters.py", str(tmp_path / "data"), "10", "twenty", "30").splitlines()
    attempts = [f"attempt {n}: could not convert string to float: 'twenty'" for n in (1, 2, 3)]
    assert sorted(lines) == [*attempts, "dead letter: twenty", "half of 10 is 5", "half of 30 is 15"]
    assert lines[-1] == "dead letter: twenty"


def test_the_worker_prints_what_is_published(broker: Broker) -> None:
    worker = start("libmq_worker.py", broker.url, "orders", "billing")
    assert worker.stdout is not None
    with libmq.connect(broker.url) as client:
        client.publish("orders", "one pizza")
    assert worker.stdout.readline() == "one pizza\n"
    worker.terminate()
    assert worker.wait(timeout=30) == 0


def test_jobs_are_called_by_a_worker(broker: Broker) -> None:
    run("libmq_jobs.py", broker.url, "add", "3")
    with libmq.connect(broker.url) as client:
        client.publish("jobs", '{"job": "unknown", "args": [], "kwargs": {}}')
    worker = start("libmq_jobs.py", broker.url, "work")
    assert worker.stdout is not None
    lines = sorted(worker.stdout.readline() for _ in range(3))
    assert lines == ["cat-0.png is 100 wide\n", "cat-1.png is 200 wide\n", "cat-2.png is 300 wide\n"]
    worker.terminate()
    assert worker.wait(timeout=30) == 0


def test_the_service_publishes_what_is_posted(broker: Broker) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    service = start("libmq_service.py", broker.url, str(port))
    assert service.stdout is not None
    assert f"http://127.0.0.1:{port}" in service.stdout.readline()

    def post(path: str, body: bytes) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    assert post("/orders", b"one pizza") == (200, f"stored by {broker.address}\n")
    assert post("/no%20name!", b"x")[0] == 400
    service.terminate()
    assert service.wait(timeout=30) == 0
    with libmq.connect(broker.url) as client:
        batch = client.subscribe("orders", "billing").next_batch(timeout=30)
        assert batch.bodies == [b"one pizza"]
        batch.finish()
