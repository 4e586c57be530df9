"""Functions as jobs: what one process calls with .later(), workers run. Jobs that fail are tried again.

    python libmq_jobs.py mq://localhost:4150 add 3
    python libmq_jobs.py mq://localhost:4150 work
"""

import json
import logging
import sys
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

import libmq

TOPIC, CHANNEL = "jobs", "workers"

P = ParamSpec("P")
R = TypeVar("R")


class Job(Generic[P, R]):
    """A function that can be called here and now, or later by a worker."""

    def __init__(self, jobs: "Jobs", function: Callable[P, R]) -> None:
        self._jobs = jobs
        self._function = function
        self.name = function.__name__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._function(*args, **kwargs)

    def later(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Returns once the call is stored. Arguments are JSON."""
        self._jobs.put({"job": self.name, "args": args, "kwargs": kwargs})


class Jobs:
    """The jobs of a program, by name."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: libmq.Client | None = None
        self._jobs: dict[str, Job[Any, Any]] = {}

    def job(self, function: Callable[P, R]) -> Job[P, R]:
        """Makes a function a job."""
        job = Job(self, function)
        self._jobs[job.name] = job
        return job

    def put(self, call: dict[str, Any]) -> None:
        # The first call connects: a program that only works needs no second client.
        self._client = self._client or libmq.connect(self._url)
        self._client.publish(TOPIC, json.dumps(call))

    def work(self, concurrency: int = 4) -> None:
        """Runs jobs until SIGTERM or SIGINT."""
        libmq.run(
            self._handle,
            topic=TOPIC,
            channel=CHANNEL,
            url=self._url,
            concurrency=concurrency,
            max_attempts=5,
            backoff=0.5,
            give_up=lambda message: logging.error("gave up %s", message.text),
        )

    def _handle(self, message: libmq.Message) -> None:
        call = message.json()
        self._jobs[call["job"]](*call["args"], **call["kwargs"])


def main(url: str, command: str, *rest: str) -> None:
    jobs = Jobs(url)

    @jobs.job
    def resize(name: str, *, width: int) -> None:
        # One write: the lines of threads don't mix.
        print(f"{name} is {width} wide\n", end="", flush=True)

    if command == "add":
        for number in range(int(rest[0])):
            resize.later(f"cat-{number}.png", width=100 * (number + 1))
    else:
        jobs.work()


if __name__ == "__main__":
    main(*sys.argv[1:])
