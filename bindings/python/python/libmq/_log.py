"""Log lines of clients."""

from __future__ import annotations

import logging

_log = logging.getLogger("libmq.client")
# Programs that set up no logging get none of them.
_log.addHandler(logging.NullHandler())


def write(level: int, line: str) -> None:
    """Logs a line: called by the extension, on the thread that called it."""
    _log.log(level, "%s", line)
