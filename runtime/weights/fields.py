"""Typed, bounded reads from a mapping that came out of a file nobody vouches for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import BrokenModelFile

_REQUIRED: Any = object()


@dataclass(frozen=True, slots=True)
class Fields:
    """Reads values by key; a missing, mistyped or absurd one raises BrokenModelFile naming the file and the key.

    A JSON null counts as absent. Booleans are not numbers here.
    """

    values: Mapping[str, Any]
    where: str  # the file, for messages

    def integer(self, key: str, default: Any = _REQUIRED, *, low: int = 1, high: int = 2**31 - 1) -> Any:
        """An int within [low, high]; `default`, which may be None, where the key is absent."""
        value = self._value(key, default)
        if value is default and value is not _REQUIRED:
            return value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(key, value, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, default: Any = _REQUIRED, *, low: float = 0.0, high: float = 1e12) -> Any:
        """A finite float within (low, high]; `default`, which may be None, where the key is absent."""
        value = self._value(key, default)
        if value is default and value is not _REQUIRED:
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(key, value, "a finite number")
        if not low < value <= high:
            raise self.wrong(key, value, f"above {low:g} and at most {high:g}")
        return float(value)

    def boolean(self, key: str, default: Any = _REQUIRED) -> bool:
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def text(self, key: str, default: Any = _REQUIRED) -> Any:
        """A str; `default`, which may be None, where the key is absent."""
        value = self._value(key, default)
        if value is default and value is not _REQUIRED:
            return value
        if not isinstance(value, str):
            raise self.wrong(key, value, "text")
        return value

    def inner(self, key: str) -> Fields | None:
        """The mapping under `key`, or None where it is absent."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.wrong(key, value, "a mapping")
        return Fields(value, f"{self.where}, {key}")

    def wrong(self, key: str, value: object, wanted: str) -> BrokenModelFile:
        """The error for a value that cannot be meant."""
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return BrokenModelFile(f"{self.where}: {key} is {shown}, but must be {wanted}")

    def _value(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is not None:
            return value
        if default is _REQUIRED:
            raise BrokenModelFile(f"{self.where}: {key} is missing")
        return default
