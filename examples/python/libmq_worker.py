"""A worker for the messages of a channel, in threads. Ends on SIGTERM, once what is being handled is done.

    python libmq_worker.py mq://localhost:4150 orders billing
"""

import logging
import sys

import libmq

logging.basicConfig(level=logging.INFO)


def handle(message: libmq.Message) -> None:
    # One write: the lines of threads don't mix.
    print(f"{message.text}\n", end="", flush=True)


def give_up(message: libmq.Message) -> None:
    logging.error("gave up %s after %d attempts", message.text, message.attempts - 1)


_, url, topic, channel = sys.argv
libmq.run(handle, topic=topic, channel=channel, url=url, concurrency=4, max_attempts=5, give_up=give_up)
