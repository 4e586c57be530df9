"""Publishes each line of standard input as a message, and ends when the broker has stored all of them."""

import queue
import sys
import time
import uuid

import grpc

import connection
from mq.v1 import common_pb2, publish_pb2, publish_pb2_grpc

BATCH_MESSAGES, BATCH_BYTES = 100, 64 * 1024
# How long to go on without a single answer.
PATIENCE_S = 30


class Refused(Exception):
    """The broker did not store a batch."""

    def __init__(self, failure):
        super().__init__(f"{failure.field}: {failure.message}" if failure.field else failure.message)
        self.retry_after_s = failure.retry_after_ms / 1000


class Batches:
    """Cuts lines into batches, and keeps each until it is answered, so that it can be sent again."""

    def __init__(self, topic, lines):
        self.topic, self.lines = topic, lines
        self.run, self.messages, self.batches, self.stored = uuid.uuid4().hex, 0, 0, 0
        self.unanswered = {}

    def next(self):
        """The next batch, or None at the end of the lines."""
        batch = publish_pb2.PublishStreamRequest(correlation=self.batches, topic=self.topic)
        size = 0
        while len(batch.messages) < BATCH_MESSAGES and size < BATCH_BYTES:
            line = self.lines.readline()
            if not line:
                break
            body = line.rstrip(b"\r\n")
            if not body:
                continue  # A message has at least one byte.
            size += len(body)
            # A message that is sent again has the same id again, and is stored once.
            dedup_id = f"{self.run}-{self.messages}"
            self.messages += 1
            headers = [common_pb2.Header(name="content-type", value=b"text/plain")]
            batch.messages.add(body=body, headers=headers, dedup_id=dedup_id)
        if not batch.messages:
            return None
        self.batches += 1
        self.unanswered[batch.correlation] = batch
        return batch

    def answered(self, result):
        """Takes in what became of a batch."""
        if result.WhichOneof("result") == "failure":
            raise Refused(result.failure)
        self.stored += len(self.unanswered.pop(result.correlation).messages)


def ahead(window):
    """How many of our batches may be unanswered."""
    return max(1, min(window.batches, window.messages // BATCH_MESSAGES, window.bytes // BATCH_BYTES))


def publish(stub, batches):
    """Publishes over one stream until everything is answered."""
    requests = queue.SimpleQueue()
    responses = stub.PublishStream(iter(requests.get, None), metadata=connection.metadata())
    try:
        limit = ahead(next(responses).window)
        for batch in batches.unanswered.values():
            requests.put(batch)
        more = True
        while more or batches.unanswered:
            while more and len(batches.unanswered) < limit:
                batch = batches.next()
                more = batch is not None
                if more:
                    requests.put(batch)
            if batches.unanswered:
                for result in next(responses).results.results:
                    batches.answered(result)
    finally:
        requests.put(None)  # Closes our side.


class Attempts:
    """Says how long to wait after an attempt that failed, until patience is at its end."""

    def __init__(self, batches):
        self.batches, self.stored = batches, -1

    def pause(self, error):
        """Seconds until the next attempt. Exits if none would help."""
        if self.batches.stored > self.stored:
            self.stored, self.since, self.seconds = self.batches.stored, time.monotonic(), connection.FIRST_PAUSE_S
        else:
            self.seconds = min(2 * self.seconds, connection.LONGEST_PAUSE_S)
        if isinstance(error, Refused):
            seconds, why = error.retry_after_s, str(error)
        else:
            is_away = error.code() == grpc.StatusCode.UNAVAILABLE
            seconds, why = self.seconds if is_away else 0, error.details()
        if not seconds or time.monotonic() - self.since > PATIENCE_S:
            sys.exit(f"publisher: {self.batches.stored} messages are stored, then: {why}")
        return seconds


def main():
    args = connection.arguments(__doc__).parse_args()
    batches = Batches(args.topic, sys.stdin.buffer)
    attempts = Attempts(batches)
    with connection.channel(args) as channel:
        stub = publish_pb2_grpc.PublishServiceStub(channel)
        while True:
            try:
                publish(stub, batches)
                break
            except (Refused, grpc.RpcError) as error:
                time.sleep(attempts.pause(error))
    print(f"published {batches.stored} messages", file=sys.stderr)


if __name__ == "__main__":
    main()
