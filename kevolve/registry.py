"""Everything that can be added from outside: targets, languages, operators, policies, models.

The built-in ones register through the same entry points as anybody's own, so that there is one way in.
"""

from __future__ import annotations

import functools
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUPS = ("targets", "languages", "operators", "policies", "models")


class UnknownName(LookupError):
    """A name that no installed package registers; the message lists those that are."""


@functools.cache
def _points(group: str) -> dict[str, EntryPoint]:
    if group not in GROUPS:
        raise ValueError(f"unknown registry group {group!r}; expected one of {', '.join(GROUPS)}")
    return {point.name: point for point in entry_points(group=f"kevolve.{group}")}


def names(group: str) -> tuple[str, ...]:
    """The registered names of a group (``"targets"``, ``"languages"`` …), sorted."""
    return tuple(sorted(_points(group)))


@functools.cache
def load(group: str, name: str) -> Any:
    """The object registered as ``name``: made once a process.

    An entry point names a class or a function without arguments; what it returns is the target, language and so on.
    Raises ``UnknownName``, listing what is registered.
    """
    points = _points(group)
    if name not in points:
        known = ", ".join(names(group)) or "none: kevolve is not installed where this process looks for packages"
        raise UnknownName(f"unknown {group[:-1]} {name!r}; registered: {known}")
    return points[name].load()()


def refresh() -> None:
    """Look again for what is registered: ``sys.path`` has changed."""
    _points.cache_clear()
    load.cache_clear()
