"""Listeners, as pynsq's messages have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import loop

FINISH = "finish"
REQUEUE = "requeue"
TOUCH = "touch"


class InvalidListenerError(Exception):
    """The listener is not there."""


class DuplicateListenerError(Exception):
    """The listener is there already."""


class EventedMixin:
    """Has listeners by the name of what happens."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[..., Any]]] = {}

    def on(self, name: str, callback: Callable[..., Any]) -> None:
        """Calls ``callback`` whenever ``name`` happens."""
        listeners = self._listeners.setdefault(name, [])
        if callback in listeners:
            raise DuplicateListenerError
        listeners.append(callback)

    def off(self, name: str, callback: Callable[..., Any]) -> None:
        """Undoes on()."""
        if callback not in self._listeners.get(name, []):
            raise InvalidListenerError
        self._listeners[name].remove(callback)

    def trigger(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Calls the listeners of ``name``."""
        for callback in list(self._listeners.get(name, [])):
            loop.finish_later(callback(*args, **kwargs))
