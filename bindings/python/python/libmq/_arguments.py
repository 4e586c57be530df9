"""Checks of arguments: each error names its argument, what it is, and what would be right."""

from __future__ import annotations

from datetime import timedelta

from ._errors import Invalid


def seconds(name: str, value: object) -> float:
    """A duration in seconds: a number, or a timedelta."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is seconds or a timedelta, not {type(value).__name__}")
    if not value >= 0:
        raise Invalid(f"{name} is {value} s: at least 0")
    return float(value)


def count(name: str, value: object, least: int) -> int:
    """A number of things, at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a number, not {type(value).__name__}")
    if value < least:
        raise Invalid(f"{name} is {value}: at least {least}")
    return value


def function(name: str, value: object) -> None:
    """Something to call."""
    # A name of its own: mypy would make a type of the test, which the module has not.
    is_function = callable(value)
    if not is_function:
        raise TypeError(f"{name} is {value!r}: a function, or a coroutine function")
