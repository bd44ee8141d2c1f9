"""Where a reference is found, so that a process of its own can import it."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A plain PyTorch function, an ``nn.Module`` instance or an ``nn.Module`` class, by import path.

    ``inputs``: names of the inputs in the order of the description: the signature's (``forward``'s for a module), then
    for a module its parameters and buffers. ``is_module`` with ``init`` naming the case arguments its class takes.
    """

    module: str
    qualname: str
    file: Path
    inputs: tuple[str, ...]
    is_module: bool = False
    init: tuple[str, ...] | None = None  # a Module class: the case arguments to construct it with; None: an instance

    @property
    def path(self) -> str:
        """``package.module:qualname``."""
        return f"{self.module}:{self.qualname}"


def import_module(name: str, file: Path) -> ModuleType:
    """Import ``name`` from pytest's path, or from its file where it is on none (a test module)."""
    if name in sys.modules:
        return sys.modules[name]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
    found = importlib.util.spec_from_file_location(name, file)
    if found is None or found.loader is None:
        raise ModuleNotFoundError(f"cannot import {name} from {file}", name=name)
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    return module


def resolve(reference: Reference, values: Mapping[str, Any]) -> Callable[..., Any]:
    """The callable for one case: takes the inputs in ``reference.inputs`` order, returns the outputs.

    ``values`` are the case's arguments, for a module class that is made anew for each.
    """
    target: Any = import_module(reference.module, reference.file)
    for part in reference.qualname.split("."):
        target = getattr(target, part)
    if not reference.is_module:
        return target  # type: ignore[no-any-return]
    module = target(**{name: values[name] for name in reference.init}) if reference.init is not None else target
    return _functional(module, reference.inputs)


def _functional(module: Any, names: tuple[str, ...]) -> Callable[..., Any]:
    """The module as a function of its inputs, parameters and buffers."""
    from torch.func import functional_call

    forward = list(inspect.signature(module.forward).parameters)
    state = names[len(forward) :]

    def call(*inputs: Any) -> Any:
        named = dict(zip(state, inputs[len(forward) :], strict=True))
        return functional_call(module, named, inputs[: len(forward)])

    return call
