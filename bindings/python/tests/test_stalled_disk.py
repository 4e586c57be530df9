"""A broker in a program with an event loop, on a disk that stalls: the loop goes on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

#: All of it waits for the disk while the file GATE is there; only the loop can remove that.
PROGRAM = """
import asyncio, os, sys, threading, time
import libmq.aio

def stands_still():
    os.write(2, b"the loop stands still")
    os._exit(1)

FOLDER, GATE, DURABILITY = sys.argv[1:]

class Pauses:
    longest = 0.0

    async def measure(self):
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.longest, last = max(self.longest, now - last), now

async def main():
    pauses = Pauses()
    async with libmq.aio.connect(FOLDER, durability=DURABILITY) as client:
        billing = client.subscribe("orders", "billing")
        await client.publish("orders", [str(number) for number in range(100)])
        taken = [await billing.next() for _ in range(100)]

        patience = threading.Timer(20, stands_still)
        patience.start()
        watch = asyncio.ensure_future(pauses.measure())
        open(GATE, "w").close()
        for number in range(10):
            client.send("other", str(number))
        published = [asyncio.ensure_future(client.publish("orders", f"late {number}")) for number in range(100)]
        published += [asyncio.ensure_future(client.publish("orders", ["x" * 1000] * 100)) for _ in range(20)]
        for message in taken[:50]:
            message.finish()
        for message in taken[50:]:
            message.requeue(0)
        while not os.path.exists(GATE + ".held"):
            await asyncio.sleep(0.001)
        for _ in range(200):
            await asyncio.sleep(0.001)
        # What was delivered before is in memory: it comes though nothing can be written.
        for _ in range(50):
            message = await billing.next()
            assert message.attempts == 2
            message.touch()
            message.finish()
        waiting = asyncio.ensure_future(billing.next_batch(10, timeout=0.01))
        cancelled = asyncio.ensure_future(client.publish("orders", "cancelled"))
        await asyncio.sleep(0.001)
        cancelled.cancel()
        await waiting
        stored = sum(one.done() for one in published)
        os.unlink(GATE)
        patience.cancel()
        watch.cancel()

        await asyncio.gather(*published)
        await client.flush()
        assert await billing.flush(timeout=30)
    print(f"longest pause {pauses.longest * 1000:.1f} ms, {stored} stored meanwhile")

asyncio.run(main())
"""


@pytest.fixture(scope="session")
def slow_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of tests/stalled_disk, which stalls the disk of another."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    program = tmp_path_factory.mktemp("slow_disk") / "slow_disk"
    source = ROOT / "tests" / "stalled_disk" / "slow_disk.c"
    subprocess.run([compiler, "-O1", "-Wall", "-Werror", "-o", str(program), str(source)], check=True)
    return program


@pytest.mark.parametrize("durability", ["memory", "flush", "sync"])
def test_a_loop_goes_on_while_the_disk_of_its_broker_stalls(
    durability: str, slow_disk: Path, tmp_path: Path
) -> None:
    data, gate = tmp_path / "data", tmp_path / "gate"
    ended = subprocess.run(
        [str(slow_disk), str(data), str(gate), sys.executable, "-c", PROGRAM, str(data), str(gate), durability],
        capture_output=True,
        text=True,
        timeout=60,
    )
    held = (tmp_path / "gate.held").read_text().splitlines()
    assert not [call for call in held if call.startswith("main")], "the loop's thread waits for the disk"
    assert ended.returncode == 0, f"{ended.stderr}; calls that wait: {held}"
    assert held, "nothing waited for the disk"
    # For whoever asks: pytest -s.
    print(ended.stdout)
