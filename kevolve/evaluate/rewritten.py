"""Draws whose contents are replaced where they lie: a kernel that remembers answers by address, object or count gives an old one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from kevolve.evaluate.plan import Plan, of_draws, tensor_bytes
from kevolve.spec.spec import Draw, Spec

_COUNT = 4  # draws; the largest among them
_MOST_BYTES = 16 << 20  # of a draw's inputs


def rewritten(spec: Spec, plan: Plan) -> Plan | None:
    """Twice as many draws as are tried: each followed by one of the same shapes and layout with other contents. None where there is none.

    The second of two is given in the memory of the first. Inputs named in ``constant=`` may be prepacked: such specs have none.
    """
    if spec.constant or not plan.draws:
        return None
    chosen = [draw for draw in _chosen(plan) if draw.origin != "huge"]
    twins = of_draws(spec, [each for draw in chosen for each in (draw, replace(draw, seed=draw.seed ^ plan.seed ^ 0x5BD1E995))])
    alike = [
        each
        for first in range(0, len(twins.draws), 2)
        if _alike(twins.inputs(first), twins.inputs(first + 1))
        for each in twins.draws[first : first + 2]
    ]
    return of_draws(spec, alike) if alike else None


def _chosen(plan: Plan) -> Sequence[Draw]:
    sizes = {number: tensor_bytes(plan.inputs(number)) for number, draw in enumerate(plan.draws) if draw.origin != "huge"}
    fitting = [number for number, size in sizes.items() if 0 < size <= _MOST_BYTES]
    largest = sorted(fitting, key=lambda number: -sizes[number])[: _COUNT // 2]
    others = [number for number in fitting if number not in largest]
    picked = random.Random(plan.seed).sample(others, min(_COUNT - len(largest), len(others)))
    return [plan.draws[number] for number in (*largest, *picked)]


def _alike(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether one's contents can be replaced by the other's: tensors of the same shapes and strides, equal numbers."""
    return all(
        (a.shape, a.stride(), a.storage_offset()) == (b.shape, b.stride(), b.storage_offset()) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(one, other, strict=True)
    )
