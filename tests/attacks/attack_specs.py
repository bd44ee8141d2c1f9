"""What the attacked specs ask for: small operators with small domains, so that a verdict takes a second."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from kevolve.spec.domain import Domain, sizes
from kevolve.spec.inputs import Tensor
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Spec


def affine(x: torch.Tensor) -> torch.Tensor:
    """Elementwise, and cheap."""
    return x * 2 + 1


def relu(x: torch.Tensor) -> torch.Tensor:
    """The identity where inputs are never negative."""
    return x.relu()


def row_sum(x: torch.Tensor) -> torch.Tensor:
    """A reduction of each row."""
    return x.sum(-1)


def chain(x: torch.Tensor) -> torch.Tensor:
    """Fourteen operators of which each reads and writes memory: a fused kernel is truly many times faster than eager."""
    value = x.abs()
    for _ in range(4):
        value = (value * 0.5 + 0.25).clamp(min=0.125)
    return value * 0.5 + 0.25


def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """A product of matrices: a linear operator."""
    return a @ b


def matrix(rows: int, cols: int) -> Any:
    """One matrix."""
    return (Tensor(rows, cols),)


def hopeful(rows: int, cols: int) -> Any:
    """One matrix as KernelBench draws all of its inputs: never negative."""
    return (Tensor(rows, cols, low=0.0, high=1.0),)


def product(m: int, n: int, k: int) -> Any:
    """The factors of a product."""
    return Tensor(m, k), Tensor(k, n)


_MATRIX = dict(rows=sizes(0, 40), cols=sizes(1, 72))
_PRODUCT = dict(m=sizes(0, 24), n=sizes(1, 24), k=sizes(1, 40))


def _spec(
    reference: Callable[..., Any], describe: Callable[..., Any], vary: Mapping[str, Domain], case: Mapping[str, int], **options: Any
) -> Spec:
    name = reference.__name__
    return Spec(
        name=name,
        nodeid=f"test_attacked.py::test_{name}",
        folder=Path(__file__).parent,
        describe=describe,
        reference=Reference(
            module=reference.__module__,
            qualname=reference.__qualname__,
            file=Path(inspect.getfile(reference)),
            inputs=tuple(inspect.signature(reference).parameters),
        ),
        cases=(Case(id="-".join(map(str, case.values())), values=case),),
        vary=vary,
        choices={},
        hash=name,
        **{"baseline": ("eager",), **options},
    )


SPECS: Mapping[str, Spec] = {
    "affine": _spec(affine, matrix, _MATRIX, dict(rows=256, cols=512), min_speedup=0.01),
    "relu": _spec(relu, matrix, _MATRIX, dict(rows=256, cols=512), min_speedup=0.01),
    "row_sum": _spec(row_sum, matrix, _MATRIX, dict(rows=256, cols=512), min_speedup=0.01),
    "chain": _spec(chain, matrix, _MATRIX, dict(rows=256, cols=1024), min_speedup=2.0),
    "matmul": _spec(matmul, product, _PRODUCT, dict(m=96, n=96, k=96), min_speedup=0.01),
}
