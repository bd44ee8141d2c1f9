"""Kernels at run time, without pytest: ``kevolve.load("package.module:test_name")``."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kevolve import registry

CACHE = Path.home() / ".cache" / "kevolve"


def _home(module: str, package: str) -> Traversable:
    """The folder that holds the module, as a resource."""
    if package:
        return files(package)
    found = find_spec(module)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"no module {module!r} on the path", name=module)
    return Path(found.origin).parent


def load(path: str, *, target: str = "cpu", cache: Path | None = None) -> Callable[..., Any]:
    """The accepted kernel of a spec as a callable that takes and returns what its reference does.

    ``path``: ``"package.module:test_name"``; the kernel is found through package resources beside that module. It is
    built on first use and kept in ``cache`` (default ``~/.cache/kevolve``). Unlike under pytest, it runs in this process.
    Raises ``FileNotFoundError`` naming what is missing and the command that makes a kernel.
    """
    module, _, test = path.partition(":")
    package, _, leaf = module.rpartition(".")
    if not test or not leaf:
        raise ValueError(f'expected "package.module:test_name", got {path!r}')
    name = test.removeprefix("test_")
    where = registry.load("targets", target)
    with as_file(_home(module, package).joinpath("kernels", name)) as folder:
        for language_name in where.languages:
            language = registry.load("languages", language_name)
            file = folder / f"{target}{language.suffix}"
            if file.exists():
                kept = cache or CACHE
                built = language.build(file.read_text(), entry=name, target=where, cache=kept, timeout_s=300.0)
                return language.load(built.artifact, entry=name, target=where).call  # type: ignore[no-any-return]
    raise FileNotFoundError(
        f"no {target} kernel of {path}: expected {name}/{target}.* under kernels/ beside {module}; "
        f"`pytest --kevolve-optimize -k {test}` writes one"
    )
