"""Everything public has an example in its docstring, and the examples run."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from importlib import metadata
from types import ModuleType
from typing import Any

import libmq
import libmq.aio
import libmq.nsq
import libmq.telemetry
import libmq.testing
import pytest

MODULES: list[ModuleType] = [libmq, libmq.aio, libmq.nsq, libmq.telemetry, libmq.testing]
#: They only say what to use in their place.
MISSING = (libmq.nsq.AsyncConn, libmq.nsq.LegacyReader, libmq.nsq.SyncConn)


def things(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What a module has in public: itself, its functions and classes, and methods of those."""
    yield module.__name__, module
    for name in module.__all__:
        thing = getattr(module, name)
        if not callable(thing) or thing in MISSING:
            continue
        is_exception = inspect.isclass(thing) and issubclass(thing, Exception)
        if not is_exception or thing is libmq.Error:
            yield f"{module.__name__}.{name}", thing
        # What handlers override and call in pynsq's manner is in the examples of its classes.
        if inspect.isclass(thing) and module is not libmq.nsq:
            for member, value in vars(thing).items():
                if not member.startswith("_") and inspect.isroutine(value):
                    yield f"{module.__name__}.{name}.{member}", value


EVERYTHING = dict(thing for module in MODULES for thing in things(module))


@pytest.mark.parametrize("name", EVERYTHING)
def test_it_has_an_example_that_runs(name: str) -> None:
    text = inspect.getdoc(EVERYTHING[name]) or ""
    if text.startswith("As libmq."):
        # The same but for ``await``.
        _, _, there = text.partition("As ")
        text = inspect.getdoc(EVERYTHING[there.partition("(")[0]]) or ""
    examples = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert examples.examples, f"{name}: {text!r}"
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_properties_are_described() -> None:
    classes: list[type[Any]] = [thing for thing in EVERYTHING.values() if inspect.isclass(thing)]
    assert len(classes) > 10
    for one in classes:
        for name, value in vars(one).items():
            if not name.startswith("_") and (isinstance(value, property) or inspect.isgetsetdescriptor(value)):
                assert inspect.getdoc(value), f"{one.__name__}.{name}"


def test_the_licences_are_in_the_package() -> None:
    names = {file.name for file in metadata.files("libmq") or [] if "licenses" in file.parts}
    assert names == {"LICENSE-APACHE", "LICENSE-MIT"}
