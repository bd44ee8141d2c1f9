"""Sums over the last axis as honest kernels make them, in many orders, and as those do that accumulate in less than is declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

Sum = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
_BLOCK, _LANES, _SPLIT, _THREADS = 1024, 32, 16, 256


def one_after_another(terms: torch.Tensor, _: torch.Generator) -> torch.Tensor:
    """The worst order: every addition meets the whole sum."""
    if not terms.shape[-1]:
        return terms.sum(-1)
    return torch.from_numpy(np.ascontiguousarray(np.add.accumulate(terms.numpy(), axis=-1, dtype=np.float32)[..., -1]))


def backwards(terms: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """The last term first."""
    return one_after_another(terms.flip(-1), rng)


def permuted(terms: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """In an order drawn at random, as atomic additions come in."""
    return one_after_another(terms[..., torch.randperm(terms.shape[-1], generator=rng)], rng)


def pairwise(terms: torch.Tensor, _: torch.Generator) -> torch.Tensor:
    """A tree, in the terms' own dtype: halves added until one is left."""
    while terms.shape[-1] > 1:
        half = (terms.shape[-1] + 1) // 2
        rest = terms[..., half:]
        terms = torch.cat((terms[..., : rest.shape[-1]] + rest, terms[..., rest.shape[-1] : half]), -1)
    return terms[..., 0]


def blocked(terms: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Blocks of 1024 one after another, and their sums one after another."""
    return one_after_another(one_after_another(_cut(terms, _BLOCK), rng), rng)


def lanes(terms: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """32 accumulators side by side, as vector instructions and warps have them, then a tree."""
    return pairwise(one_after_another(_cut(terms, _LANES).transpose(-1, -2), rng), rng)


def split_k(terms: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """16 parts, each one after another, their sums added as they come in."""
    length = -(-terms.shape[-1] // _SPLIT)
    return permuted(one_after_another(_cut(terms, length), rng), rng)


ORDERS: Mapping[str, Sum] = {
    "one after another": one_after_another,
    "backwards": backwards,
    "permuted": permuted,
    "pairwise": pairwise,
    "blocked": blocked,
    "lanes": lanes,
    "split-K": split_k,
}


def fused(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Products over the last axis with fused multiply-adds in 64 lanes: a product is not rounded before it is added."""
    steps = zip(_cut(one, 64).unbind(-2), _cut(other, 64).unbind(-2), strict=True)
    held = torch.zeros(())
    for left, right in steps:
        held = torch.addcmul(held.double(), left.double(), right.double()).float()
    return pairwise(held, torch.Generator())


def low_threads(dtype: torch.dtype) -> Sum:
    """256 accumulators of ``dtype``, each one after another, then a tree: as a kernel's threads would."""

    def made(terms: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        parts = _cut(terms, _THREADS).to(dtype)
        held = torch.zeros_like(parts[..., 0, :])
        for part in parts.unbind(-2):
            held = held + part
        return pairwise(held, rng).float()

    return made


def low_tree(dtype: torch.dtype) -> Sum:
    """A tree in ``dtype``: the fewest roundings that accumulating in it can have."""
    return lambda terms, rng: pairwise(terms.to(dtype), rng).float()


def low_blocks(dtype: torch.dtype) -> Sum:
    """Trees of 32 terms in ``dtype``, their sums in float32: hidden better still."""
    return lambda terms, rng: lanes(pairwise(_cut(terms, 32).to(dtype), rng).float(), rng)


LOW: Mapping[str, Sum] = {
    f"{name}, {how}": make(dtype)
    for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16))
    for how, make in (("256 threads", low_threads), ("tree", low_tree), ("trees of 32, then float32", low_blocks))
}


def _cut(terms: torch.Tensor, length: int) -> torch.Tensor:
    """The last axis in pieces of ``length``, the rest filled with zeros."""
    missing = -terms.shape[-1] % length
    return torch.nn.functional.pad(terms, (0, missing)).unflatten(-1, (-1, length))
