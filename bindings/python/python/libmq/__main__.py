"""The program mq: ``mq serve``, or ``python -m libmq serve``."""

from __future__ import annotations

import signal
import sys

from . import _libmq


def main() -> int:
    """Runs the command line, and returns its exit status."""
    # The program has its own signal handling; Python's would only note the signal.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    name = "mq" if sys.argv[0].endswith("__main__.py") else sys.argv[0]
    return _libmq.main([name, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
