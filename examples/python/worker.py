"""Prints the messages of a channel, one a line, and finishes them. Ends cleanly on SIGINT and SIGTERM."""

import queue
import signal
import sys
import time

import grpc

import connection
from mq.v1 import subscribe_pb2, subscribe_pb2_grpc

# Messages that we may have unfinished at a time. Finishing some makes room for others: credit is given once.
CREDIT = 256
RETRY_AFTER_MS = 500


def process(message):
    """Your work: what raises is delivered again later. A message may come more than once in any case."""
    if message.body == b"fail-once" and message.attempts == 1:
        raise RuntimeError("this one fails at its first attempt")
    sys.stdout.buffer.write(message.body + b"\n")


class Worker:
    def __init__(self, args):
        self.args, self.left = args, args.count
        self.requests = queue.SimpleQueue()
        self.is_processing = self.is_stopping = False
        self.pause = connection.FIRST_PAUSE_S

    def run(self, stub):
        """Works over one stream until it ends."""
        self.requests = queue.SimpleQueue()
        self.requests.put(
            subscribe_pb2.SubscribeRequest(
                open=subscribe_pb2.SubscribeOpen(
                    topic=self.args.topic,
                    channel=self.args.channel,
                    client_name="example worker (Python)",
                ),
                credit=subscribe_pb2.SubscribeCredit(messages=CREDIT),
            )
        )
        responses = stub.Subscribe(iter(self.requests.get, None), metadata=connection.metadata())
        try:
            for response in responses:
                kind = response.WhichOneof("response")
                if kind == "opened":
                    self.pause = connection.FIRST_PAUSE_S
                elif kind == "batch" and not self.is_stopping:
                    self.work(response.batch.messages)
                elif kind == "failures":
                    # Their timeout had passed: they are delivered again, here or elsewhere.
                    print(f"{len(response.failures.failures)} came too late", file=sys.stderr)
        finally:
            self.requests.put(None)

    def work(self, messages):
        """Processes messages, and tells the broker of all at once."""
        self.is_processing = True
        acks = subscribe_pb2.SubscribeRequest()
        failed = []
        for message in messages:
            if self.is_stopping:
                break
            try:
                process(message)
            except Exception as error:
                print(f"to be tried again: {error}", file=sys.stderr)
                failed.append(message.id)
                continue
            acks.finish.append(message.id)
            if self.left:
                self.left -= 1
                self.is_stopping |= self.left == 0
        sys.stdout.flush()
        if failed:
            acks.requeue.add(ids=failed, delay_ms=RETRY_AFTER_MS)
        self.requests.put(acks)
        self.is_processing = False
        if self.is_stopping:
            self.requests.put(None)

    def stop(self, *_):
        """Closes our side behind the last acknowledgement: what we have not worked on returns to the channel at once."""
        self.is_stopping = True
        if not self.is_processing:
            self.requests.put(None)


def main():
    parser = connection.arguments(__doc__)
    parser.add_argument("--channel", required=True)
    parser.add_argument("--count", type=int, default=0, help="end after this many messages; 0: never")
    args = parser.parse_args()
    worker = Worker(args)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, worker.stop)
    with connection.channel(args) as channel:
        stub = subscribe_pb2_grpc.SubscribeServiceStub(channel)
        while not worker.is_stopping:
            try:
                worker.run(stub)
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    sys.exit(f"worker: {error.code().name}: {error.details()}")
                print(f"connecting again: {error.details()}", file=sys.stderr)
                time.sleep(worker.pause)
                worker.pause = min(2 * worker.pause, connection.LONGEST_PAUSE_S)


if __name__ == "__main__":
    main()
