"""Modules imported from a copy of the tree that they stand in: an older text of a callable, in a process of its own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

_INSTALLED = frozenset(("site-packages", "dist-packages"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A tree of modules, ``origin``, and the copy of it, ``root``, from which they are imported instead."""

    origin: Path
    root: Path

    def to_json(self) -> dict[str, str]:
        """What a process is told."""
        return {"origin": str(self.origin), "root": str(self.root)}

    @classmethod
    def from_json(cls, told: Mapping[str, str]) -> Moved:
        """What ``to_json`` gave."""
        return cls(origin=Path(told["origin"]), root=Path(told["root"]))


def is_own(path: Path, origin: Path) -> bool:
    """Whether a file or folder belongs to the tree itself, and not to an environment that is installed in it."""
    if not path.is_relative_to(origin):
        return False
    environments = (Path(prefix) for prefix in (sys.prefix, sys.base_prefix))
    installed = any(prefix.is_relative_to(origin) and path.is_relative_to(prefix) for prefix in environments)
    return not installed and not _INSTALLED & set(path.relative_to(origin).parts)


def import_moved(name: str, moved: Moved) -> ModuleType:
    """A module from the copy. Raises ``ImportError`` where the copy does not have it, or the module is not imported from the tree."""
    origin, root = moved.origin, moved.root
    sys.path[:] = [str(root / Path(path).relative_to(origin)) if is_own(Path(path), origin) else path for path in sys.path]
    ourselves = __name__.partition(".")[0]
    for known, module in list(sys.modules.items()):  # a reference's package, say, which was imported before this process was forked
        file = getattr(module, "__file__", None)
        if file and is_own(Path(file), origin) and known.partition(".")[0] != ourselves:
            del sys.modules[known]
    importlib.invalidate_caches()
    made = importlib.import_module(name)
    if not Path(made.__file__ or "").is_relative_to(root):
        raise ImportError(f"{name}: expected the old text below {root}, got {made.__file__}: it is installed, not imported from {origin}")
    return made
