"""CPU time of the client for each message, beside pynsq, in one run and on one broker.

    cargo xtask bench clients

Each figure is of a process of its own (user and system time of the whole process, all its threads, from the first
message to the last), the best of --rounds. The broker's time is not in it. What has no peer follows: a broker in this process,
and the time of an import.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

BODY = b"x" * 100
BATCH = 100
# Bytes on their way at most: as many as stay in a processor's cache until the answer comes.
BUFFERED = 256 << 10


class Clock:
    """Measures a client's work, by messages."""

    def __init__(self) -> None:
        self._began = time.process_time()

    def report(self, messages: int) -> None:
        print(f"{(time.process_time() - self._began) * 1e6 / messages:.3f}")


def libmq_send(url: str, messages: int) -> None:
    import libmq

    with libmq.connect(url, max_buffered_bytes=BUFFERED) as client:
        client.publish("t", BODY)
        clock = Clock()
        for _ in range(messages):
            try:
                client.send("t", BODY)
            except libmq.BufferFull:
                client.flush()
                client.send("t", BODY)
        client.flush()
        clock.report(messages)


def libmq_publish_lists(url: str, messages: int) -> None:
    import libmq

    with libmq.connect(url, max_buffered_bytes=BUFFERED) as client:
        client.publish("t", BODY)
        clock = Clock()
        for _ in range(messages // BATCH):
            try:
                client.send("t", [BODY] * BATCH)
            except libmq.BufferFull:
                client.flush()
                client.send("t", [BODY] * BATCH)
        client.flush()
        clock.report(messages)


def libmq_for(url: str, messages: int) -> None:
    import libmq

    with libmq.connect(url) as client, client.subscribe("t", "c", max_in_flight=200) as subscription:
        seen = 0
        clock = Clock()
        for message in subscription:
            message.body
            message.finish()
            seen += 1
            if seen == messages:
                break
        clock.report(messages)


def libmq_batches(url: str, messages: int) -> None:
    import libmq

    with libmq.connect(url) as client, client.subscribe("t", "c", max_in_flight=2000) as subscription:
        seen = 0
        clock = Clock()
        for batch in subscription.batches(BATCH):
            batch.bodies
            batch.finish()
            seen += len(batch)
            if seen >= messages:
                break
        clock.report(seen)


def libmq_async_for(url: str, messages: int) -> None:
    import libmq.aio

    async def main() -> None:
        async with libmq.aio.connect(url) as client:
            async with client.subscribe("t", "c", max_in_flight=200) as subscription:
                seen = 0
                clock = Clock()
                async for message in subscription:
                    message.body
                    message.finish()
                    seen += 1
                    if seen == messages:
                        break
                clock.report(messages)

    asyncio.run(main())


def pynsq_pub(url: str, messages: int, bodies: int = 1) -> None:
    import nsq
    import tornado.ioloop

    writer = nsq.Writer([url.removeprefix("mq://")])
    loop = tornado.ioloop.IOLoop.current()
    state = {"sent": 0, "answered": 0}
    clocks: list[Clock] = []
    total = messages // bodies

    def answered(_connection: object, data: object) -> None:
        assert data == b"OK", data
        state["answered"] += 1
        if state["answered"] == total:
            clocks[0].report(messages)
            loop.stop()
        elif state["sent"] < total:
            send()

    def send() -> None:
        state["sent"] += 1
        if bodies == 1:
            writer.pub("t", BODY, answered)
        else:
            writer.mpub("t", [BODY] * bodies, answered)

    def start() -> None:
        if not any(connection.connected() for connection in writer.conns.values()):
            loop.call_later(0.05, start)
            return
        clocks.append(Clock())
        for _ in range(min(total, 256)):
            send()

    loop.call_later(0.2, start)
    loop.start()


def pynsq_mpub(url: str, messages: int) -> None:
    pynsq_pub(url, messages, BATCH)


def pynsq_reader(url: str, messages: int) -> None:
    import nsq
    import tornado.ioloop

    seen = 0
    clock: Clock | None = None

    def handle(message: nsq.Message) -> bool:
        nonlocal seen, clock
        if clock is None:
            clock = Clock()
        message.body
        seen += 1
        if seen == messages:
            clock.report(messages)
            tornado.ioloop.IOLoop.current().stop()
        return True

    nsq.Reader("t", "c", handle, nsqd_tcp_addresses=[url.removeprefix("mq://")], max_in_flight=200)
    tornado.ioloop.IOLoop.current().start()


CASES: dict[str, tuple[Callable[[str, int], None], bool]] = {
    "pynsq: pub, 256 at once": (pynsq_pub, False),
    "libmq: send, one at a time": (libmq_send, False),
    "pynsq: mpub of 100": (pynsq_mpub, False),
    "libmq: send, lists of 100": (libmq_publish_lists, False),
    "pynsq: Reader, finish": (pynsq_reader, True),
    "libmq: for, finish": (libmq_for, True),
    "libmq: async for, finish": (libmq_async_for, True),
    "libmq: batches of 100, finish": (libmq_batches, True),
}

# The part of pynsq's cost that each may have.
BARS = {
    "libmq: send, one at a time": 15,
    "libmq: send, lists of 100": 10,
    "libmq: for, finish": 15,
    "libmq: async for, finish": 10,
    "libmq: batches of 100, finish": 50,
}


def embedded() -> tuple[float, float]:
    """Messages a second of lists of BATCH to a broker in this process, and microseconds of one publish."""
    import libmq

    with libmq.connect("mq:memory") as client:
        bodies, lists = [BODY] * BATCH, 5_000
        began = time.perf_counter()
        for _ in range(lists):
            client.publish("t", bodies)
        rate = lists * BATCH / (time.perf_counter() - began)
        client.empty_topic("t")
        ones = 50_000
        began = time.perf_counter()
        for _ in range(ones):
            client.publish("t", BODY)
        return rate, (time.perf_counter() - began) * 1e6 / ones


def importing() -> float:
    """Milliseconds of an import, in a process of its own."""
    program = "import time; a = time.perf_counter(); import libmq; print((time.perf_counter() - a) * 1e3)"
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


def measure(name: str, messages: int) -> float:
    """Microseconds of one case, on a broker of its own."""
    import libmq

    _, consumes = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        broker = subprocess.Popen(
            [
                *[sys.executable, "-m", "libmq", "serve", "--tcp-address=127.0.0.1:0", "--http-address="],
                *["--grpc-address=", "--log-level=error", "--data-path", str(Path(folder) / "data")],
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert broker.stdout is not None
            url = f"mq://{broker.stdout.readline().split()[1]}"
            if consumes:
                with libmq.connect(url) as client:
                    for _ in range(messages // BATCH):
                        client.send("t", [BODY] * BATCH)
                    client.flush()
            command = [sys.executable, __file__, "--case", name, "--url", url, "--messages", str(messages)]
            return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        finally:
            broker.kill()
            broker.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        CASES[arguments.case][0](arguments.url, arguments.messages)
        return
    peer = 0.0
    print(f"{'':32}  CPU us a message   of pynsq's   bar")
    for name in CASES:
        best = min(measure(name, arguments.messages) for _ in range(arguments.rounds))
        if name.startswith("pynsq"):
            peer = best
        part = f"1/{peer / best:.1f}"
        bar = f"1/{BARS[name]}" if name in BARS else ""
        print(f"{name:32}  {best:16.2f}   {part:10}   {bar}".rstrip(), flush=True)
    several = [embedded() for _ in range(arguments.rounds)]
    print(f"in this process, lists of {BATCH}: {max(rate for rate, _ in several) / 1e6:.2f} M messages a second")
    print(f"in this process, one publish: {min(one for _, one in several):.2f} us")
    print(f"import libmq: {min(importing() for _ in range(arguments.rounds)):.1f} ms")


if __name__ == "__main__":
    main()
