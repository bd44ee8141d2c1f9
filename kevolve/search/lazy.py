"""Texts that stay on disk until somebody reads them: a graph of ten thousand nodes must not hold ten thousand kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, overload

Source: TypeAlias = "str | Callable[[], str]"


class Text:
    """A dataclass's field of text: given as a text, or as a function that reads it whenever it is asked for.

    ``Text()`` is a field that must be given; ``Text("")`` has a default.
    """

    def __init__(self, default: str | None = None) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type) -> str: ...

        @overload
        def __get__(self, instance: object, owner: type) -> str: ...

    def __get__(self, instance: object | None, owner: type) -> str:
        """The text; of the class itself, its default (``AttributeError`` where it has none: the dataclass asks)."""
        if instance is None:
            if self._default is None:
                raise AttributeError(self._name)
            return self._default
        held: Source = instance.__dict__[self._name]
        return held if isinstance(held, str) else held()

    def __set__(self, instance: object, value: str | Callable[[], str]) -> None:
        """Keep the text, or how to read it."""
        instance.__dict__[self._name] = value
