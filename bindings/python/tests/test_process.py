"""The process around a client: its start and end, forks, signals, memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libmq
import pytest
from conftest import Broker

Program = Callable[..., "subprocess.CompletedProcess[str]"]


def test_importing_is_light(program: Program) -> None:
    program(
        """
import sys
before = set(sys.modules)
import libmq, threading
new = set(sys.modules) - before
assert not new & {"asyncio", "dataclasses", "opentelemetry", "logging"}, new
assert threading.active_count() == 1
assert libmq.run and libmq.Stats and libmq.Failure
try:
    libmq.nothing
except AttributeError as error:
    assert "nothing" in str(error)
else:
    raise AssertionError
"""
    )


def test_what_was_sent_is_stored_when_the_program_ends(program: Program, tmp_path: Path) -> None:
    result = program(
        """
import libmq
client = libmq.connect("./data")
for number in range(100):
    client.send("t", str(number))
subscription = client.subscribe("t", "c")
held = subscription.next()
"""
    )
    assert result.stderr == ""
    with libmq.connect(str(tmp_path / "data")) as client:
        assert client.stats().topics[0].message_count >= 0
        subscription = client.subscribe("t", "c")
        texts: set[str] = set()
        while len(texts) < 100:
            message = subscription.next(timeout=30)
            assert message is not None, f"only {len(texts)} came"
            message.finish()
            texts.add(message.text)


def test_a_broker_that_is_gone_does_not_keep_the_program(program: Program) -> None:
    began = time.monotonic()
    result = program("import libmq; libmq.connect('mq://127.0.0.1:1').send('t', 'x')")
    assert result.stderr == "" and time.monotonic() - began < 20


def test_a_child_of_fork_harms_nothing(program: Program, tmp_path: Path) -> None:
    program(
        """
import libmq, os, pathlib, sys, time
client = libmq.connect("./data")
client.publish("t", ["a", "b", "c"])
subscription = client.subscribe("t", "c")
message = subscription.next(timeout=30)
batch = subscription.next_batch(1, timeout=30)
def files():
    return {path.name: path.read_bytes() for path in pathlib.Path("data").iterdir()}
# What is not in the log yet is written within 100 ms: only the child is to change anything below.
before = None
while before != (now := files()):
    before = now
    time.sleep(0.3)
pid = os.fork()
if pid == 0:
    for call in (
        lambda: client.publish("t", "x"),
        lambda: client.send("t", "x"),
        client.flush,
        client.stats,
        subscription.next,
        lambda: next(iter(subscription)),
        client.close,
        subscription.close,
        message.finish,
        message.requeue,
        message.touch,
        lambda: message.__exit__(None),
        lambda: message.__exit__(ValueError),
        batch.finish,
        batch.requeue,
        batch.touch,
        batch[0].finish,
    ):
        try:
            call()
        except libmq.Forked:
            continue
        sys.exit(7)
    assert not message.is_answered
    with libmq.connect("mq:memory") as own:
        own.publish("t", "own")
        assert own.subscribe("t", "c").next(timeout=30).text == "own"
    del client, subscription, message, batch
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert files() == before, "the child changed the folder"
message.finish()
assert subscription.next(timeout=30).text == "c"
assert client.stats().topics[0].channels[0].finished == 1
"""
    )


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing_publish_on_clients_of_their_own(
    tmp_path: Path, method: str, broker: Broker
) -> None:
    source = tmp_path / "main.py"
    source.write_text(
        f"""
import multiprocessing, sys
import libmq

parent = None

def work(number):
    with libmq.connect({broker.url!r}) as client:
        client.publish("t", str(number))
    return number

if __name__ == "__main__":
    multiprocessing.set_start_method({method!r})
    parent = libmq.connect({broker.url!r})
    parent.publish("t", "parent")
    with multiprocessing.Pool(4) as pool:
        assert sorted(pool.map(work, range(20))) == list(range(20))
    parent.publish("t", "parent")
"""
    )
    result = subprocess.run([sys.executable, str(source)], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    with libmq.connect(broker.url) as client:
        subscription = client.subscribe("t", "c")
        texts: list[str] = []
        while len(texts) < 22:
            message = subscription.next(timeout=30)
            assert message is not None, texts
            message.finish()
            texts.append(message.text)
        assert sorted(texts) == sorted([str(number) for number in range(20)] + ["parent"] * 2)


def test_the_program_mq_is_in_the_package(broker: Broker) -> None:
    mq = Path(sys.executable).with_name("mq")
    for command in ([str(mq)], [sys.executable, "-m", "libmq"]):
        shown = subprocess.run([*command, "--version"], capture_output=True, text=True)
        assert shown.returncode == 0 and shown.stdout.startswith("mq "), shown
        wrong = subprocess.run([*command, "nothing"], capture_output=True, text=True)
        assert wrong.returncode != 0 and "nothing" in wrong.stderr
    published = subprocess.run(
        [str(mq), "pub", "--topic", "t", "--tcp-address", broker.address], input="a\nb\n", capture_output=True, text=True
    )
    assert published.returncode == 0, published.stderr
    with libmq.connect(broker.url) as client:
        batch = client.subscribe("t", "c").next_batch(timeout=30)
        assert batch.bodies[0] == b"a"
        batch.finish()


def test_a_free_threaded_python_is_refused(program: Program) -> None:
    program(
        """
import sys
sys.abiflags = "t"
try:
    import libmq
except ImportError as error:
    assert "free-threaded" in str(error) and "use a Python with the GIL" in str(error), error
else:
    raise AssertionError
"""
    )


def test_a_subinterpreter_is_refused(program: Program) -> None:
    if sys.version_info < (3, 12):
        module: Any = "_xxsubinterpreters"
    else:
        module = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    program(
        f"""
import {module} as interpreters
import libmq
one = interpreters.create()
try:
    failed = interpreters.run_string(one, "import libmq")
except Exception as error:
    failed = error
assert failed is not None and "subinterpreter" in str(failed), failed
"""
    )
