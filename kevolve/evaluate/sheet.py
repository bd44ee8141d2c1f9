"""A batch's expected outputs side by side, so that thousands of small outputs are judged by few comparisons.

It only ever says that outputs are right. Whatever it does not settle is compared draw by draw (``compare``), which says what differs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from kevolve.evaluate.arena import Outputs, contiguous_metas
from kevolve.evaluate.oracle import Expected, ExpectedOutput
from kevolve.spec.comparators import Comparator

_LARGEST = 1 << 30  # bytes of outputs that are kept side by side
_STRIP = 1 << 19  # elements
_STRIP_BYTES = 1 << 23  # with what lies between them


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Outputs of one dtype that lie near one another, or a piece of a large one: few enough to stay in the cache while they are compared.

    ``allowed``: None for integers and truth values, which must be equal.
    """

    dtype: torch.dtype
    start: int  # bytes
    parts: Sequence[int]  # elements from there on: a gap, an output, a gap, …
    oracle: torch.Tensor  # one axis: the outputs one after another
    allowed: torch.Tensor | None

    def right(self, fd: int) -> bool:
        """Whether an arena holds these outputs."""
        held = torch.empty(sum(self.parts) * self.dtype.itemsize, dtype=torch.uint8)
        if os.preadv(fd, [held.numpy().data], self.start) != held.numel():
            return False
        got = torch.cat(held.view(self.dtype).split_with_sizes(self.parts)[1::2])
        if self.allowed is None:
            return torch.equal(got, self.oracle)
        return bool((got.to(torch.float64).sub_(self.oracle).abs_() < self.allowed).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """``metas``: how a child describes contiguous outputs of the right dtypes and shapes; ``rest``: draws that no strip holds."""

    metas: Sequence[Sequence[Any]]
    strips: Sequence[Strip]
    rest: Sequence[int]
    size: int

    def unsettled(self, outputs: Outputs, metas: Any) -> Sequence[int] | None:
        """Which draws are to be compared one by one, the others being right; None: every one.

        What is compared is read once: a child may write meanwhile.
        """
        odd = self._odd(metas)
        if odd is None or os.fstat(outputs.fd).st_size < self.size:
            return None
        return sorted({*odd, *self.rest}) if all(strip.right(outputs.fd) for strip in self.strips) else None

    def _odd(self, metas: Any) -> Sequence[int] | None:
        """Draws whose outputs have other strides; None where anything else differs, so that they do not lie where they should."""
        if metas == self.metas:
            return ()
        if not isinstance(metas, list) or len(metas) != len(self.metas):
            return None
        odd = [number for number, (got, wanted) in enumerate(zip(metas, self.metas, strict=True)) if got != wanted]
        return odd if all(_lies_alike(metas[number], self.metas[number]) for number in odd) else None


def _lies_alike(got: Any, wanted: Sequence[Any]) -> bool:
    """Whether dtype, shape and position are the same: an arena holds elements in logical order, whatever their strides."""
    if not isinstance(got, list) or len(got) != len(wanted):
        return False
    pairs = list(zip(got, wanted, strict=True))
    return all(isinstance(one, list) and len(one) == 4 and (one[:2], one[3]) == (two[:2], two[3]) for one, two in pairs)


def sheet_of(expected: Sequence[Expected], compare: Mapping[int, Comparator]) -> tuple[Sheet, list[Expected]] | None:
    """The sheet of a batch, and what is expected with its tensors as parts of the sheet's; None where outputs are too many bytes.

    ``compare``: comparators by output; a draw that has one is in ``rest``.
    """
    metas, size = contiguous_metas([[(output.dtype, output.oracle.shape) for output in item.outputs] for item in expected])
    if size > _LARGEST:
        return None
    rest = [number for number, item in enumerate(expected) if not _is_settled(item, compare)]
    left_out = set(rest)
    places: dict[torch.dtype, list[tuple[int, int, int]]] = {}  # by dtype: item, output, position in bytes
    for number, item in enumerate(expected):
        for at, output in enumerate(item.outputs):
            if number not in left_out and output.unreliable is None and output.oracle.numel():
                places.setdefault(output.dtype, []).append((number, at, metas[number][at][3]))
    changed = [list(item.outputs) for item in expected]
    strips = [strip for dtype, found in places.items() for strip in _strips(dtype, found, changed)]
    again = [replace(item, outputs=tuple(outputs)) for item, outputs in zip(expected, changed, strict=True)]
    return Sheet(metas=metas, strips=strips, rest=rest, size=size), again


def _is_settled(item: Expected, compare: Mapping[int, Comparator]) -> bool:
    return not compare and all(output.unreliable is not None or _is_plain(output) for output in item.outputs)


def _is_plain(output: ExpectedOutput) -> bool:
    """Whether one comparison of all elements decides: what is allowed is known for each, and nothing is infinite."""
    if output.oracle.is_floating_point():
        return output.allowed is not None and bool(output.oracle.isfinite().all())
    return output.native is None and output.oracle.dtype == output.dtype


def _strips(dtype: torch.dtype, places: Sequence[tuple[int, int, int]], outputs: list[list[ExpectedOutput]]) -> list[Strip]:
    """The outputs at ``places`` in strips; in ``outputs`` their tensors become parts of one, so that memory is not taken twice."""
    held = [outputs[number][at] for number, at, _ in places]
    oracle = torch.cat([output.oracle.reshape(-1) for output in held])
    allowed = None
    if oracle.is_floating_point():
        allowed = torch.cat([output.allowed.reshape(-1) for output in held if output.allowed is not None])
    counts = [output.oracle.numel() for output in held]
    for (number, at, _), output, part, spare in zip(
        places, held, oracle.split(counts), allowed.split(counts) if allowed is not None else [None] * len(held), strict=True
    ):
        shape = output.oracle.shape
        own = spare.view(shape) if spare is not None else output.allowed
        outputs[number][at] = replace(output, oracle=part.view(shape), allowed=own)
    pieces = [
        (position // dtype.itemsize + done, min(_STRIP, count - done))
        for (_, _, position), count in zip(places, counts, strict=True)
        for done in range(0, count, _STRIP)
    ]
    return list(_gathered(dtype, pieces, oracle, allowed))


def _gathered(dtype: torch.dtype, pieces: Sequence[tuple[int, int]], oracle: torch.Tensor, allowed: torch.Tensor | None) -> Iterator[Strip]:
    """Strips of pieces, each where it starts in the arena and its length, in elements."""
    done = at = 0
    while at < len(pieces):
        start, taken, end = pieces[at][0], 0, pieces[at][0]
        parts: list[int] = []
        while at < len(pieces):
            where, count = pieces[at]
            if taken and (taken + count > _STRIP or (where + count - start) * dtype.itemsize > _STRIP_BYTES):
                break
            parts += [where - end, count]
            taken, end, at = taken + count, where + count, at + 1
        own = slice(done, done + taken)
        yield Strip(
            dtype=dtype, start=start * dtype.itemsize, parts=parts, oracle=oracle[own], allowed=None if allowed is None else allowed[own]
        )
        done += taken
