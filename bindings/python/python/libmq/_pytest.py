"""The fixture ``mq`` of pytest: see libmq.testing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ._libmq import Client


@pytest.fixture
def mq() -> Iterator[Client]:
    """A broker in memory whose time stands still: see libmq.testing."""
    from .testing import broker

    with broker() as client:
        yield client
