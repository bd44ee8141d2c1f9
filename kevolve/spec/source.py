"""What a test function's text says, with what it names in its own module."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kevolve.spec.domain import Choices, Sizes
from kevolve.spec.inputs import Jagged, Scalar, Tensor

_PLAIN = (bool, int, float, complex, str, bytes, type(None), Sizes, Tensor, Scalar, Jagged)


def sources(function: Callable[..., Any]) -> list[str]:
    """The source of ``function`` with its decorators; then, by name, of the functions and classes of its module that it refers to.

    They are followed in turn. A global that is a number, a text, a description of inputs or a collection of such stands as
    ``name = value``. What comes from other modules does not count.
    """
    own = inspect.getsource(function)
    found: dict[str, str] = {}
    _follow(own, function.__module__, getattr(function, "__globals__", {}), found)
    found.pop(function.__name__, None)
    return [own, *(found[name] for name in sorted(found))]


def _follow(source: str, module: str, known: Mapping[str, Any], found: dict[str, str]) -> None:
    for name in _names(source):
        if name in found or name not in known:
            continue
        value = inspect.unwrap(known[name]) if callable(known[name]) else known[name]
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == module:
            found[name] = inspect.getsource(value)
            _follow(found[name], module, known, found)
        elif _is_plain(value):
            found[name] = f"{name} = {value!r}"


def _names(source: str) -> Iterator[str]:
    """The names that a text mentions, in order."""
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError:  # a lambda's text is the piece of a line that it stands in
        return
    yield from sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})


def _is_plain(value: Any) -> bool:
    if isinstance(value, Choices):
        return _is_plain(value.values)
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    return type(value) in _PLAIN
