"""Prints the messages of a channel, one a line, as worker.py does, with asyncio: as many at the same time as it has credit."""

import asyncio
import signal
import sys

import grpc

import connection
from mq.v1 import subscribe_pb2, subscribe_pb2_grpc

# Messages that we work on at the same time. Finishing one makes room for another, so credit is given once.
CREDIT = 16
RETRY_AFTER_MS = 500
# What is at work is extended so many times within its timeout.
TOUCHES = 3


async def process(message):
    """Your work: what raises is delivered again later. A message may come more than once in any case."""
    if message.body == b"fail-once" and message.attempts == 1:
        raise RuntimeError("this one fails at its first attempt")
    if message.body.startswith(b"slow"):
        await asyncio.sleep(0.02)
    sys.stdout.buffer.write(message.body + b"\n")


class Worker:
    def __init__(self, args):
        self.args, self.left = args, args.count
        self.stopping = asyncio.Event()
        self.pause = connection.FIRST_PAUSE_S
        # The token of the newest delivery of each message that is at work, and the task that works on it.
        self.tokens, self.tasks = {}, set()

    async def run(self, stub):
        """Works over one stream until it ends."""
        stream = stub.Subscribe(metadata=connection.metadata())
        self.requests = asyncio.Queue()
        helpers = [asyncio.create_task(work) for work in (self.send(stream), self.leave())]
        try:
            await self.requests.put(
                subscribe_pb2.SubscribeRequest(
                    open=subscribe_pb2.SubscribeOpen(
                        topic=self.args.topic,
                        channel=self.args.channel,
                        client_name="example worker (Python, asyncio)",
                        credit=subscribe_pb2.SubscribeCredit(messages=self.args.credit),
                        # Our channel takes messages of any size.
                        max_message_bytes=0,
                    ),
                )
            )
            async for response in stream:
                kind = response.WhichOneof("response")
                if kind == "opened":
                    self.pause = connection.FIRST_PAUSE_S
                    every_s = response.opened.msg_timeout_ms / 1000 / TOUCHES
                    helpers.append(asyncio.create_task(self.touch(every_s)))
                elif kind == "batch":
                    for message in response.batch.messages:
                        self.begin(message)
                elif kind == "failures":
                    # Their timeout had passed: they are delivered again, here or elsewhere.
                    print(f"{len(response.failures.failures)} came too late", file=sys.stderr)
        finally:
            for helper in helpers:
                helper.cancel()
            stream.cancel()

    def update(self, **changes):
        """Sends a change of the stream."""
        update = subscribe_pb2.SubscribeUpdate(**changes)
        self.requests.put_nowait(subscribe_pb2.SubscribeRequest(update=update))

    def begin(self, message):
        """Works on a message, unless we are on our way out: then nobody looks at it, and it counts as no attempt."""
        if self.stopping.is_set():
            self.update(release=[message.token])
            return
        is_at_work = message.id in self.tokens
        self.tokens[message.id] = message.token
        if not is_at_work:
            task = asyncio.create_task(self.work(message))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def work(self, message):
        """Processes a message and acknowledges it: its newest delivery, since it may have come again meanwhile."""
        try:
            await process(message)
            sys.stdout.flush()
        except Exception as error:
            print(f"to be tried again: {error}", file=sys.stderr)
            tokens = [self.tokens.pop(message.id)]
            self.update(requeue=[subscribe_pb2.SubscribeRequeue(tokens=tokens, delay_ms=RETRY_AFTER_MS)])
        else:
            self.update(finish=[self.tokens.pop(message.id)])
            if self.left:
                self.left -= 1
                if not self.left:
                    self.stopping.set()

    async def send(self, stream):
        """Sends requests, one after the other, until there are no more."""
        while request := await self.requests.get():
            await stream.write(request)
        await stream.done_writing()

    async def touch(self, every_s):
        """Extends what is at work."""
        while True:
            await asyncio.sleep(every_s)
            self.update(touch=list(self.tokens.values()))

    async def leave(self):
        """Takes no more, waits for what is at work, and closes our side."""
        await self.stopping.wait()
        self.update(credit=subscribe_pb2.SubscribeCredit(messages=0))
        while self.tasks:
            await asyncio.wait(self.tasks)
        self.requests.put_nowait(None)


async def main():
    parser = connection.arguments(__doc__)
    parser.add_argument("--channel", required=True)
    parser.add_argument("--credit", type=int, default=CREDIT, help="messages at work at a time")
    parser.add_argument("--count", type=int, default=0, help="end after this many messages; 0: never")
    args = parser.parse_args()
    worker = Worker(args)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, worker.stopping.set)
    async with connection.channel(args, grpc.aio) as channel:
        stub = subscribe_pb2_grpc.SubscribeServiceStub(channel)
        while not worker.stopping.is_set():
            try:
                await worker.run(stub)
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    sys.exit(f"worker: {error.code().name}: {error.details()}")
                print(f"connecting again: {error.details()}", file=sys.stderr)
                await asyncio.sleep(worker.pause)
                worker.pause = min(2 * worker.pause, connection.LONGEST_PAUSE_S)


if __name__ == "__main__":
    asyncio.run(main())
