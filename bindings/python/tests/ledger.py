"""Publishers and consumers of the ledger's test. A module of its own: processes that are spawned import it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Event

import libmq
import libmq.aio

PATIENCE = 60
#: Tasks that publish or consume at a time.
TASKS = 50

#: What a consumer finished: texts and attempts.
Taken = list[tuple[str, int]]


def publish(url: str, name: str, count: int) -> None:
    """Publishes NAME-0, NAME-1 ...: one by one, in lists, and without waiting."""
    texts = [f"{name}-{number}" for number in range(count)]
    third = count // 3
    with libmq.connect(url) as client:
        for text in texts[:third]:
            client.publish("t", text)
        for at in range(third, 2 * third, 10):
            client.publish("t", texts[at : min(at + 10, 2 * third)])
        pending = [client.send("t", text) for text in texts[2 * third :]]
        for one in pending:
            one.result(timeout=PATIENCE)


def consume(url: str, is_over: Callable[[], bool]) -> Taken:
    """Finishes what comes, until it is over."""
    taken: Taken = []
    with libmq.connect(url) as client, client.subscribe("t", "c") as subscription:
        while not is_over():
            message = subscription.next(timeout=0.05)
            if message is not None:
                taken.append((message.text, message.attempts))
                message.finish()
    return taken


async def publish_in_tasks(url: str, name: str, count: int) -> None:
    """Publishes NAME-0, NAME-1 ..., many at a time."""
    numbers = iter(range(count))
    async with libmq.aio.connect(url) as client:

        async def one() -> None:
            for number in numbers:
                await client.publish("t", f"{name}-{number}")

        await asyncio.gather(*(one() for _ in range(TASKS)))


async def consume_in_tasks(url: str, is_over: Callable[[], bool]) -> Taken:
    """Finishes what comes, in many tasks, until it is over."""
    taken: Taken = []
    async with libmq.aio.connect(url) as client:
        async with client.subscribe("t", "c") as subscription:

            async def one() -> None:
                while not is_over():
                    message = await subscription.next(timeout=0.05)
                    if message is not None:
                        taken.append((message.text, message.attempts))
                        message.finish()

            await asyncio.gather(*(one() for _ in range(TASKS)))
    return taken


def consume_until(url: str, over: Event) -> Taken:
    """As consume(), until an event that a process can be given: one of a manager of multiprocessing."""
    return consume(url, over.is_set)
