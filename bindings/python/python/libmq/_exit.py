"""Clients that are open when the program ends."""

from __future__ import annotations

import atexit
import time
import weakref

from ._errors import Error
from ._libmq import Client

#: Seconds for all of them: a program that ends must not hang on a broker that is gone.
SECONDS = 5.0

_open: weakref.WeakSet[Client] = weakref.WeakSet()


def close_at_exit(client: Client) -> None:
    """Closes the client at exit, if it is there then."""
    if not _open:
        # After what the program registered before: it may still publish at its end.
        atexit.unregister(_close_all)
        atexit.register(_close_all)
    _open.add(client)


def _close_all() -> None:
    deadline = time.monotonic() + SECONDS
    for client in list(_open):
        try:
            client.close(timeout=max(0.0, deadline - time.monotonic()))
        except Error:
            # Nobody can do anything about it any more; in a child of fork it is not ours.
            pass
