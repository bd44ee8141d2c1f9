"""Kernels at run time, without pytest: ``kevolve.load("package.module:test_name")``."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from kevolve import registry

CACHE = Path.home() / ".cache" / "kevolve"


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
    root = files(package) if package else files(module)
    with as_file(root.joinpath("kernels", name)) as folder:
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
