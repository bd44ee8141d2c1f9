"""A kernel spec is a pytest test; a search writes the kernel that passes it.

``import kevolve`` is cheap: names are found on first use, and none of them imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kevolve.loading import load
    from kevolve.plugin import on
    from kevolve.spec.comparators import index_of, quantised, unordered
    from kevolve.spec.declaration import kernel
    from kevolve.spec.domain import choices, sizes
    from kevolve.spec.inputs import Jagged, Scalar, Tensor
    from kevolve.spec.spec import Work

__version__ = "0.1.0"
__all__ = [
    "Jagged",
    "Scalar",
    "Tensor",
    "Work",
    "choices",
    "index_of",
    "kernel",
    "load",
    "on",
    "quantised",
    "sizes",
    "unordered",
]

_HOMES = {
    "kernel": "kevolve.spec.declaration",
    "Tensor": "kevolve.spec.inputs",
    "Scalar": "kevolve.spec.inputs",
    "Jagged": "kevolve.spec.inputs",
    "sizes": "kevolve.spec.domain",
    "choices": "kevolve.spec.domain",
    "index_of": "kevolve.spec.comparators",
    "unordered": "kevolve.spec.comparators",
    "quantised": "kevolve.spec.comparators",
    "Work": "kevolve.spec.spec",
    "load": "kevolve.loading",
    "on": "kevolve.plugin",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kevolve' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
