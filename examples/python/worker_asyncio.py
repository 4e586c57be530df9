"""Prints the messages of a channel, one a line, as worker.py does, with asyncio: those of a batch at the same time."""

import asyncio
import signal
import sys

import grpc

import connection
from mq.v1 import subscribe_pb2, subscribe_pb2_grpc

# Messages that we may have unfinished at a time. Finishing some makes room for others: credit is given once.
CREDIT = 256
RETRY_AFTER_MS = 500


async def process(message):
    """Your work: what raises is delivered again later. A message may come more than once in any case."""
    if message.body == b"fail-once" and message.attempts == 1:
        raise RuntimeError("this one fails at its first attempt")
    sys.stdout.buffer.write(message.body + b"\n")


class Worker:
    def __init__(self, args):
        self.args, self.left = args, args.count
        self.stopping = asyncio.Event()
        self.pause = connection.FIRST_PAUSE_S

    async def run(self, stub):
        """Works over one stream until it ends."""
        stream = stub.Subscribe(metadata=connection.metadata())
        processing = asyncio.Lock()
        closing = asyncio.create_task(self.close(stream, processing))
        try:
            await stream.write(
                subscribe_pb2.SubscribeRequest(
                    open=subscribe_pb2.SubscribeOpen(
                        topic=self.args.topic,
                        channel=self.args.channel,
                        client_name="example worker (Python, asyncio)",
                    ),
                    credit=subscribe_pb2.SubscribeCredit(messages=CREDIT),
                )
            )
            async for response in stream:
                kind = response.WhichOneof("response")
                if kind == "opened":
                    self.pause = connection.FIRST_PAUSE_S
                elif kind == "batch" and not self.stopping.is_set():
                    async with processing:
                        await stream.write(await self.work(response.batch.messages))
                elif kind == "failures":
                    # Their timeout had passed: they are delivered again, here or elsewhere.
                    print(f"{len(response.failures.failures)} came too late", file=sys.stderr)
        finally:
            closing.cancel()
            stream.cancel()

    async def work(self, messages):
        """Processes messages; returns what is to be told of them."""
        if self.left:
            messages = messages[: self.left]
        outcomes = await asyncio.gather(*map(process, messages), return_exceptions=True)
        sys.stdout.flush()
        acks = subscribe_pb2.SubscribeRequest()
        failed = []
        for message, error in zip(messages, outcomes):
            if error is None:
                acks.finish.append(message.id)
            else:
                print(f"to be tried again: {error}", file=sys.stderr)
                failed.append(message.id)
        if failed:
            acks.requeue.add(ids=failed, delay_ms=RETRY_AFTER_MS)
        if self.left:
            self.left -= len(acks.finish)
            if not self.left:
                self.stopping.set()
        return acks

    async def close(self, stream, processing):
        """Closes our side behind the last acknowledgement: what we have not worked on returns to the channel at once."""
        await self.stopping.wait()
        async with processing:
            await stream.done_writing()


async def main():
    parser = connection.arguments(__doc__)
    parser.add_argument("--channel", required=True)
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
