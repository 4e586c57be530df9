"""Publishes each line of standard input as a message, as publisher.py does, with asyncio."""

import asyncio
import sys

import grpc

import connection
from mq.v1 import publish_pb2_grpc
from publisher import Attempts, Batches, Refused, ahead


async def publish(stub, batches):
    """Publishes over one stream until everything is answered."""
    stream = stub.PublishStream(metadata=connection.metadata())
    try:
        limit = ahead((await stream.read()).window)
        for batch in batches.unanswered.values():
            await stream.write(batch)
        more = True
        while more or batches.unanswered:
            while more and len(batches.unanswered) < limit:
                # In a thread, since standard input may keep us waiting.
                batch = await asyncio.to_thread(batches.next)
                more = batch is not None
                if more:
                    await stream.write(batch)
            if batches.unanswered:
                for result in (await stream.read()).results.results:
                    batches.answered(result)
        await stream.done_writing()
    finally:
        stream.cancel()


async def main():
    args = connection.arguments(__doc__).parse_args()
    batches = Batches(args.topic, sys.stdin.buffer)
    attempts = Attempts(batches)
    async with connection.channel(args, grpc.aio) as channel:
        stub = publish_pb2_grpc.PublishServiceStub(channel)
        while True:
            try:
                await publish(stub, batches)
                break
            except (Refused, grpc.RpcError) as error:
                await asyncio.sleep(attempts.pause(error))
    print(f"published {batches.stored} messages", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main())
