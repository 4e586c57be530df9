"""Types of arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TypeAlias, Union

#: Bytes of a body, header or id.
Bytes: TypeAlias = Union[bytes, bytearray, memoryview, str]
#: Headers by name, or in pairs.
Headers: TypeAlias = Union[Mapping[str, Bytes], Iterable[tuple[str, Bytes]]]
#: A duration.
Seconds: TypeAlias = Union[float, timedelta]
