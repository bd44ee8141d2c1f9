"""Specs without pytest's collection, for the tests of the judge."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kevolve.spec.domain import sizes
from kevolve.spec.inputs import Tensor
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Draw, Spec


def spec_of(reference: Callable[..., Any], describe: Callable[..., Any], *, vary: Any = None, choices: Any = None, **options: Any) -> Spec:
    """A spec of ``reference``, which must be importable by name."""
    found = Reference(
        module=reference.__module__,
        qualname=reference.__qualname__,
        file=Path(inspect.getfile(reference)),
        inputs=tuple(inspect.signature(reference).parameters),
    )
    given = dict(vary=vary or {}, choices=choices or {}, cases=(), hash="", **options)
    name = reference.__name__
    return Spec(name=name, nodeid=f"test_it.py::test_{name}", folder=Path(), describe=describe, reference=found, **given)


def draw(*, distribution: str | None = "normal", layout: str | None = None, seed: int = 1, **values: Any) -> Draw:
    return Draw(values=values, seed=seed, distribution=distribution, layout=layout)


def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    wide = x.to(torch.float32)
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6) * weight.to(torch.float32)).to(x.dtype)


def rms_norm_spec(**options: Any) -> Spec:
    def describe(rows: int, cols: int, dtype: str) -> Any:
        return Tensor(rows, cols, dtype=dtype), Tensor(cols, dtype=dtype)

    choices = dict(dtype=("float32", "bfloat16"))
    return spec_of(rms_norm, describe, vary=dict(rows=sizes(0, 4096), cols=sizes(1, 8192)), choices=choices, **options)


def total(x: torch.Tensor) -> torch.Tensor:
    return x.sum(-1)


def gated(x: torch.Tensor, mixed: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """A gated feed-forward layer on mixed features, rounded after every operator."""
    linear = torch.nn.functional.linear
    between = linear(x, mixed)
    return linear(torch.nn.functional.silu(linear(between, gate)) * linear(between, up), down)


def shifted(x: torch.Tensor) -> torch.Tensor:
    """What is much smaller than the shift is lost."""
    return (x + 4096.0) - 4096.0


def gelu(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(x, approximate="tanh")


def square(x: torch.Tensor) -> torch.Tensor:
    return x * x


def add_to(state: torch.Tensor, x: torch.Tensor) -> None:
    state.add_(x)


def argmax(x: torch.Tensor) -> torch.Tensor:
    return x.argmax(-1)


def weighted(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (x.float() * weight.float()).sum(-1)


def doubled_ids(ids: torch.Tensor) -> torch.Tensor:
    return ids * 2


def numbers(x: torch.Tensor) -> tuple[torch.Tensor, float]:
    return x, float(x.sum())


def vector(n: int, dtype: str = "float32") -> Any:
    return (Tensor(n, dtype=dtype),)


def matrix(rows: int, cols: int, dtype: str = "float32") -> Any:
    return (Tensor(rows, cols, dtype=dtype),)


def cancelling(x: torch.Tensor) -> torch.Tensor:
    """What is left of it in float32 is its own rounding error."""
    return (x + 1e10) - 1e10


def picky(x: torch.Tensor) -> torch.Tensor:
    if len(x) == 3:
        raise ValueError("three is too many")
    return x * x
