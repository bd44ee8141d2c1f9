"""What a test function's text says, with what it names in its own module."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kevolve.spec.domain import Choices, Sizes
from kevolve.spec.inputs import Jagged, Scalar, Tensor

_PLAIN = (bool, int, float, complex, str, bytes, type(None), Sizes, Tensor, Scalar, Jagged)


def sources(function: Callable[..., Any], *, beyond: bool = False) -> list[str]:
    """The source of ``function`` with its decorators; then, by name, of the functions and classes of its module that it refers to.

    They are followed in turn. A global that is a number, a text, a description of inputs or a collection of such stands as
    ``name = value``. What comes from other modules does not count, unless ``beyond``: then what stands in the same project does.
    """
    own = inspect.getsource(function)
    found: dict[str, str] = {}
    module = function.__module__
    _follow(own, getattr(function, "__globals__", {}), found, lambda other: other == module or (beyond and _beside(module, other)))
    found.pop(function.__name__, None)
    return [own, *(found[name] for name in sorted(found))]


def _follow(source: str, known: Mapping[str, Any], found: dict[str, str], follows: Callable[[str], bool]) -> None:
    for name in _names(source):
        if name in found or name not in known:
            continue
        value = inspect.unwrap(known[name]) if callable(known[name]) else known[name]
        if (inspect.isfunction(value) or inspect.isclass(value)) and follows(value.__module__):
            found[name] = inspect.getsource(value)
            _follow(found[name], _globals(value) or known, found, follows)
        elif _is_plain(value):
            found[name] = f"{name} = {value!r}"


def _globals(value: Any) -> Mapping[str, Any]:
    """What the text of a function or class may name; nothing of a class whose module is not registered."""
    known: Mapping[str, Any] = getattr(value, "__globals__", None) or getattr(sys.modules.get(value.__module__), "__dict__", {})
    return known


def _beside(module: str, other: str) -> bool:
    """Whether two modules are of one project: of the same package, or below the folder of the first where that is no folder of packages."""
    top, file = module.partition(".")[0], getattr(sys.modules.get(other), "__file__", None)
    if other.partition(".")[0] == top:
        return True
    first = getattr(sys.modules.get(module), "__file__", None)
    if first is None or file is None:
        return False
    root = Path(first).resolve().parents[module.count(".") + (Path(first).name == "__init__.py")]
    installed = {"site-packages", "dist-packages"} & {*root.parts, *Path(file).resolve().parts}
    return not installed and Path(file).resolve().is_relative_to(root)


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
