"""Examples in docstrings run; names are what the stub says."""

from __future__ import annotations

import doctest
import inspect
from typing import Any

import libmq
import libmq.aio
import libmq.testing
import pytest


@pytest.mark.parametrize("module", [libmq, libmq.aio, libmq.testing], ids=lambda module: module.__name__)
def test_examples_run(module: Any) -> None:
    failed, tried = doctest.testmod(module)
    assert failed == 0 and tried > 0


def test_everything_public_has_a_docstring() -> None:
    for name in libmq.__all__:
        thing = getattr(libmq, name)
        assert inspect.getdoc(thing), name
        if inspect.isclass(thing) and thing.__module__ == "libmq" and not issubclass(thing, (Exception, tuple)):
            for member in vars(thing):
                if not member.startswith("_") and not inspect.ismemberdescriptor(getattr(thing, member)):
                    assert inspect.getdoc(getattr(thing, member)), f"{name}.{member}"
