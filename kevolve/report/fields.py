"""Take fields out of plain JSON data one by one, with errors that name the place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, overload


class RecordError(ValueError):
    """The data is no run record: the message names the field, what was expected and what was there."""


class Fields:
    """One JSON object of the record, at ``where`` ("record.results[3]"). Fields taken are gone; ``rest`` is what nobody took."""

    def __init__(self, data: Any, where: str) -> None:
        self.where = where
        if not isinstance(data, Mapping):
            raise RecordError(f"{where}: expected an object, got {_shown(data)}")
        self._data = dict(data)

    @overload
    def text(self, name: str) -> str: ...
    @overload
    def text(self, name: str, *, optional: Literal[True]) -> str | None: ...
    def text(self, name: str, *, optional: bool = False) -> str | None:
        """A string."""
        value = self._take(name, optional)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, "a string", value)
        return value

    @overload
    def number(self, name: str) -> float: ...
    @overload
    def number(self, name: str, *, optional: Literal[True]) -> float | None: ...
    def number(self, name: str, *, optional: bool = False) -> float | None:
        """A finite number of at least 0."""
        value = self._take(name, optional)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise self._wrong(name, "a finite number of at least 0", value)
        return float(value)

    @overload
    def integer(self, name: str) -> int: ...
    @overload
    def integer(self, name: str, *, optional: Literal[True]) -> int | None: ...
    def integer(self, name: str, *, optional: bool = False) -> int | None:
        """A whole number of at least 0."""
        value = self._take(name, optional)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong(name, "a whole number of at least 0", value)
        return value

    def quantity(self, name: str) -> float:
        """A finite number of at least 0 as it is: a count stays whole."""
        value = self._take(name, False)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise self._wrong(name, "a finite number of at least 0", value)
        return value

    def truth(self, name: str) -> bool:
        """True or false; false where it is absent."""
        value = self._take(name, True)
        if not isinstance(value, bool | None):
            raise self._wrong(name, "true or false", value)
        return bool(value)

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers of at least 0; empty where it is absent."""
        value = self._take(name, True)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in value):
            raise self._wrong(name, "a list of whole numbers of at least 0", value)
        return tuple(value)

    def texts(self, name: str) -> dict[str, str]:
        """An object of strings; ``{}`` where it is absent."""
        value = self.mapping(name)
        for key, item in value.items():
            if not isinstance(item, str):
                raise self._wrong(f"{name}.{key}", "a string", item)
        return value

    def one_of(self, name: str, allowed: Sequence[str]) -> str:
        """One of some words."""
        value = self._take(name, False)
        if value not in allowed:
            raise self._wrong(name, f"one of {', '.join(allowed)}", value)
        return str(value)

    def mapping(self, name: str) -> dict[str, Any]:
        """An object whose fields are free; ``{}`` where it is absent."""
        value = self._take(name, True)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self._wrong(name, "an object", value)
        return dict(value)

    @overload
    def child(self, name: str) -> Fields: ...
    @overload
    def child(self, name: str, *, optional: Literal[True]) -> Fields | None: ...
    def child(self, name: str, *, optional: bool = False) -> Fields | None:
        """An object with fields of its own."""
        value = self._take(name, optional)
        return None if value is None else Fields(value, f"{self.where}.{name}")

    def children(self, name: str, *, optional: bool = False) -> Iterator[Fields]:
        """A list of objects."""
        value = self._take(name, optional)
        if value is None:
            return
        if not isinstance(value, list):
            raise self._wrong(name, "a list", value)
        for position, item in enumerate(value):
            yield Fields(item, f"{self.where}.{name}[{position}]")

    def named(self, name: str, *, optional: bool = False) -> Iterator[tuple[str, Fields]]:
        """An object of objects, by name; entries that are null are left out."""
        value = self._take(name, optional)
        if value is None:
            return
        if not isinstance(value, Mapping):
            raise self._wrong(name, "an object", value)
        for key, item in value.items():
            if item is not None:
                yield key, Fields(item, f"{self.where}.{name}.{key}")

    def rest(self) -> dict[str, Any]:
        """What no call has taken."""
        return self._data

    def _take(self, name: str, optional: bool) -> Any:
        value = self._data.pop(name, None)
        if value is None and not optional:
            raise RecordError(f"{self.where}: expected a field {name!r}, got none")
        return value

    def _wrong(self, name: str, expected: str, value: Any) -> RecordError:
        return RecordError(f"{self.where}.{name}: expected {expected}, got {_shown(value)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
