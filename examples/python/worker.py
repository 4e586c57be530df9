"""Prints the messages of a channel, one a line, and finishes them. Ends cleanly on SIGINT and SIGTERM."""

import queue
import signal
import sys
import threading
import time

import grpc

import connection
from mq.v1 import subscribe_pb2, subscribe_pb2_grpc

# Messages that we may have unfinished at a time: the one at work and a few that wait. Finishing some makes room for others,
# so credit is given once.
CREDIT = 16
RETRY_AFTER_MS = 500
# What waits or is at work is extended so many times within its timeout.
TOUCHES = 3


def process(message):
    """Your work: what raises is delivered again later. A message may come more than once in any case."""
    if message.body == b"fail-once" and message.attempts == 1:
        raise RuntimeError("this one fails at its first attempt")
    if message.body.startswith(b"slow"):
        time.sleep(0.02)
    sys.stdout.buffer.write(message.body + b"\n")


class Worker:
    def __init__(self, args):
        self.args, self.left = args, args.count
        self.is_stopping = False
        self.pause = connection.FIRST_PAUSE_S
        # Of the stream there is: its requests, the newest delivery of each message that waits or is at work, and its end.
        self.requests = queue.SimpleQueue()
        self.waiting = {}
        self.is_over = threading.Event()
        self.changed = threading.Condition()

    def run(self, stub):
        """Reads one stream until it ends, so that whatever is in flight is known here and can be extended."""
        self.requests, self.waiting, self.is_over = queue.SimpleQueue(), {}, threading.Event()
        self.requests.put(
            subscribe_pb2.SubscribeRequest(
                open=subscribe_pb2.SubscribeOpen(
                    topic=self.args.topic,
                    channel=self.args.channel,
                    client_name="example worker (Python)",
                    credit=subscribe_pb2.SubscribeCredit(messages=self.args.credit),
                    # Our channel takes messages of any size.
                    max_message_bytes=0,
                ),
            )
        )
        responses = stub.Subscribe(iter(self.requests.get, None), metadata=connection.metadata())
        working = threading.Thread(target=self.work)
        working.start()
        try:
            for response in responses:
                kind = response.WhichOneof("response")
                if kind == "opened":
                    self.pause = connection.FIRST_PAUSE_S
                    every_s = response.opened.msg_timeout_ms / 1000 / TOUCHES
                    threading.Thread(target=self.touch, args=(every_s, self.requests, self.is_over), daemon=True).start()
                elif kind == "batch":
                    with self.changed:
                        self.waiting.update((message.id, message) for message in response.batch.messages)
                        self.changed.notify()
                elif kind == "failures":
                    self.lose([failure.token for failure in response.failures.failures])
        finally:
            with self.changed:
                self.is_over.set()
                self.changed.notify()
            self.requests.put(None)
            working.join()

    def update(self, **changes):
        """Sends a change of the stream."""
        self.requests.put(subscribe_pb2.SubscribeRequest(update=subscribe_pb2.SubscribeUpdate(**changes)))

    def first(self):
        """Waits for a message to work on. None at the end."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.is_stopping or self.is_over.is_set())
            if not self.is_stopping and not self.is_over.is_set():
                return next(iter(self.waiting.values()))

    def work(self):
        """Processes the messages that wait, one after the other, and acknowledges each."""
        while message := self.first():
            try:
                process(message)
                sys.stdout.flush()
                is_done = True
            except Exception as error:
                print(f"to be tried again: {error}", file=sys.stderr)
                is_done = False
            with self.changed:
                # It may have come again meanwhile: only the newest delivery can be acknowledged.
                message = self.waiting.pop(message.id, message)
            if not is_done:
                again = subscribe_pb2.SubscribeRequeue(tokens=[message.token], delay_ms=RETRY_AFTER_MS)
                self.update(requeue=[again])
                continue
            self.update(finish=[message.token])
            if self.left:
                self.left -= 1
                self.is_stopping |= self.left == 0
        # Gives back what we have not worked on, which then counts as no attempt, and closes our side.
        with self.changed:
            tokens = [message.token for message in self.waiting.values()]
            self.waiting.clear()
        self.update(credit=subscribe_pb2.SubscribeCredit(messages=0), release=tokens)
        self.requests.put(None)

    def touch(self, every_s, requests, is_over):
        """Extends what waits or is at work, for as long as the stream lasts."""
        while not is_over.wait(every_s):
            with self.changed:
                update = subscribe_pb2.SubscribeUpdate(touch=[message.token for message in self.waiting.values()])
                requests.put(subscribe_pb2.SubscribeRequest(update=update))

    def lose(self, tokens):
        """Drops what waits and whose timeout has passed: it is delivered again, here or elsewhere."""
        print(f"{len(tokens)} came too late", file=sys.stderr)
        with self.changed:
            for message in list(self.waiting.values()):
                if message.token in tokens:
                    del self.waiting[message.id]

    def stop(self, *_):
        """Ends behind the message that is at work."""
        with self.changed:
            self.is_stopping = True
            self.changed.notify()


def main():
    parser = connection.arguments(__doc__)
    parser.add_argument("--channel", required=True)
    parser.add_argument("--credit", type=int, default=CREDIT, help="messages unfinished at a time")
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
