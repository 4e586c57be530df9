"""Prints the messages of a channel, one a line, and finishes them. Ends cleanly on SIGINT and SIGTERM."""

import collections
import queue
import signal
import sys
import threading
import time

import grpc

import connection
from mq.v1 import subscribe_pb2, subscribe_pb2_grpc

# Messages that we may have unfinished at a time: those at work and a few that wait. Finishing some makes room for others,
# so credit is given once. What waits here must not wait for longer than the message timeout.
CREDIT = 16
RETRY_AFTER_MS = 500
# The timeout of what waits starts anew this often.
TOUCH_EVERY_S = 10


def process(message):
    """Your work: what raises is delivered again later. A message may come more than once in any case."""
    if message.body == b"fail-once" and message.attempts == 1:
        raise RuntimeError("this one fails at its first attempt")
    sys.stdout.buffer.write(message.body + b"\n")


class Worker:
    def __init__(self, args):
        self.args, self.left = args, args.count
        self.requests = queue.SimpleQueue()
        self.waiting = collections.deque()
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
                    credit=subscribe_pb2.SubscribeCredit(messages=CREDIT),
                    # Our channel takes messages of any size.
                    max_message_bytes=0,
                ),
            )
        )
        self.waiting.clear()
        responses = stub.Subscribe(iter(self.requests.get, None), metadata=connection.metadata())
        over = threading.Event()
        threading.Thread(target=self.touch, args=(self.requests, over), daemon=True).start()
        try:
            for response in responses:
                kind = response.WhichOneof("response")
                if kind == "opened":
                    self.pause = connection.FIRST_PAUSE_S
                elif kind == "batch":
                    self.waiting.extend(response.batch.messages)
                    self.work()
                elif kind == "failures":
                    # Their timeout had passed: they are delivered again, here or elsewhere.
                    print(f"{len(response.failures.failures)} came too late", file=sys.stderr)
        finally:
            over.set()
            self.requests.put(None)

    def update(self, **changes):
        """Sends a change of the stream."""
        self.requests.put(subscribe_pb2.SubscribeRequest(update=subscribe_pb2.SubscribeUpdate(**changes)))

    def work(self):
        """Processes the messages that wait, and acknowledges each."""
        self.is_processing = True
        while self.waiting and not self.is_stopping:
            message = self.waiting[0]
            try:
                process(message)
                sys.stdout.flush()
            except Exception as error:
                print(f"to be tried again: {error}", file=sys.stderr)
                again = subscribe_pb2.SubscribeRequeue(tokens=[message.token], delay_ms=RETRY_AFTER_MS)
                self.update(requeue=[again])
            else:
                self.update(finish=[message.token])
                if self.left:
                    self.left -= 1
                    self.is_stopping |= self.left == 0
            self.waiting.popleft()
        self.is_processing = False
        if self.is_stopping:
            self.leave()

    def touch(self, requests, over):
        """Extends what is at work or waits, for as long as the stream lasts."""
        while not over.wait(TOUCH_EVERY_S):
            tokens = [message.token for message in self.waiting.copy()]
            update = subscribe_pb2.SubscribeUpdate(touch=tokens)
            requests.put(subscribe_pb2.SubscribeRequest(update=update))

    def stop(self, *_):
        """Ends behind the message that is at work."""
        self.is_stopping = True
        if not self.is_processing:
            self.leave()

    def leave(self):
        """Gives back what we have not worked on, which then counts as no attempt, and closes our side."""
        tokens = [message.token for message in self.waiting]
        self.update(credit=subscribe_pb2.SubscribeCredit(messages=0), release=tokens)
        self.waiting.clear()
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
