"""The time that failures make a reader wait."""

from __future__ import annotations


class BackoffTimer:
    """A wait that grows with failures and shrinks with successes, in seconds: by large steps at first, then by
    small ones.

    >>> from libmq.nsq import BackoffTimer
    >>> timer = BackoffTimer(0, 100)
    >>> timer.failure()
    >>> timer.get_interval()
    2.8
    >>> timer.success()
    >>> timer.get_interval()
    0.0
    """

    def __init__(
        self,
        min_interval: float,
        max_interval: float,
        ratio: float = 0.25,
        short_length: float = 10,
        long_length: float = 250,
    ) -> None:
        assert min_interval >= 0, "min_interval is at least 0"
        assert max_interval >= min_interval, "max_interval is at least min_interval"
        self.min_interval = float(min_interval)
        self.max_interval = float(max_interval)
        span = self.max_interval - self.min_interval
        #: What one step adds to each of the two parts, and their bounds.
        self.short_unit = span * ratio / short_length
        self.long_unit = span * (1 - ratio) / long_length
        self._short_max = span * ratio
        self._long_max = span * (1 - ratio)
        self._short = 0.0
        self._long = 0.0

    def success(self) -> None:
        """One success: the wait is a step shorter."""
        self._short = max(0.0, self._short - self.short_unit)
        self._long = max(0.0, self._long - self.long_unit)

    def failure(self) -> None:
        """One failure: the wait is a step longer."""
        self._short = min(self._short_max, self._short + self.short_unit)
        self._long = min(self._long_max, self._long + self.long_unit)

    def get_interval(self) -> float:
        """The wait, in seconds."""
        return self.min_interval + self._short + self._long
