"""Which Python files a spec needs on a machine that has only kevolve: its own, its reference's and what these import."""

from __future__ import annotations

import ast
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

_OURS = "kevolve"  # is installed there


def sources(names: Iterable[str]) -> dict[str, bytes]:
    """The files of the modules named and of all that they import, by path (``package/module.py``); installed packages are left out.

    What a module reads that is no Python file is not found.
    """
    found: dict[str, bytes] = {}
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if not name or name in seen:
            continue
        seen.add(name)
        waiting.append(name.rpartition(".")[0])  # the packages around it
        file = _file(name)
        if file is not None:
            is_package = file.name == "__init__.py"
            found[name.replace(".", "/") + ("/__init__.py" if is_package else ".py")] = text = file.read_bytes()
            waiting += _imported(text, name if is_package else name.rpartition(".")[0])
    return found


def _file(name: str) -> Path | None:
    """Where a module of the project's own stands; None for what is installed, built in or not there."""
    top = name.partition(".")[0]
    if top == _OURS or top in sys.stdlib_module_names or (top != name and _is_installed(_origin(top))):
        return None
    origin = _origin(name)
    if origin is None or origin.suffix != ".py" or _is_installed(origin) or not origin.is_file():
        return None
    return origin


def _origin(name: str) -> Path | None:
    module = sys.modules.get(name)
    if module is not None:
        file = getattr(module, "__file__", None)
        return Path(file) if file else None
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):  # of a name in a package that is none
        return None
    return Path(found.origin) if found is not None and found.origin and found.has_location else None


def _is_installed(file: Path | None) -> bool:
    """Whether it stands among the installed packages, as it is found or behind a link: installers may link to a cache of theirs."""
    if file is None:
        return False
    places = (file.absolute(), file.resolve())
    return any(place.is_relative_to(folder) for folder in _installed() for place in places)


def _installed() -> Iterator[Path]:
    paths = sysconfig.get_paths()
    names = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    for name in (*names, *site.getsitepackages(), site.getusersitepackages()):
        yield from (Path(name).absolute(), Path(name).resolve())


def _imported(text: bytes, package: str) -> Iterator[str]:
    """The modules that a text may import, anywhere in it; of ``from a import b`` both ``a`` and ``a.b``."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if package else []
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if base and alias.name != "*")
