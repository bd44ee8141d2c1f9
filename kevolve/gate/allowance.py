"""How much worse a figure may get before the gate fails: defaults with their reasons, and a spec's own in their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """The new figure may be ``factor`` times the old one, or differ from it by ``step``, whichever allows more.

    ``least``: more is better, and the allowance is the least that passes.
    """

    factor: float
    reason: str
    step: float = 0.0
    least: bool = False

    def bound(self, old: float) -> float:
        """The greatest new figure that passes (with ``least``, the smallest)."""
        if self.least:
            return min(old * self.factor, old - self.step)
        return max(old * self.factor, old + self.step)


_EXACT = 1.0
DEFAULTS: Mapping[str, Allowance] = {
    "registers": Allowance(factor=1.10, step=8, reason="given out in eights; what matters of them shows in the occupancy"),
    "scalar_registers": Allowance(factor=1.5, step=16, reason="on AMD they do not limit the occupancy"),
    "spills": Allowance(factor=_EXACT, reason="bytes of a thread that go to memory and back"),
    "shared_bytes": Allowance(factor=1.10, step=256, reason="a reduction's scratch is a few words; a tile more is not"),
    "occupancy": Allowance(factor=_EXACT, least=True, reason="fewer warps hide less latency"),
    "instructions": Allowance(factor=1.15, step=16, reason="scheduling and address arithmetic vary by some"),
    "loads": Allowance(factor=1.10, reason="instructions that read global memory follow from the text, not from scheduling"),
    "stores": Allowance(factor=1.10, reason="as loads"),
    "load_width": Allowance(factor=0.9, least=True, reason="bytes an instruction: 16 where alignment is known, else one element"),
    "store_width": Allowance(factor=0.9, least=True, reason="as load_width"),
    "shared_instructions": Allowance(factor=1.15, step=4, reason="a change of layout goes through shared memory"),
    "matrix_instructions": Allowance(factor=1e-3, least=True, reason="any are enough, since shapes differ; none means that they are lost"),
    "atomic_instructions": Allowance(factor=_EXACT, reason="each may wait for another program's"),
    "float64_instructions": Allowance(factor=1.15, reason="from a sixty-fourth to half of float32's rate: none should come in unseen"),
    "bytes_loaded": Allowance(factor=1.02, reason="exact at the same inputs; a tail more is no pass more"),
    "bytes_stored": Allowance(factor=1.02, reason="as bytes_loaded"),
    "flops": Allowance(factor=1.10, reason="exact at the same inputs; another formula of the same cost differs by little"),
    "float64_flops": Allowance(factor=1.10, reason="as float64_instructions"),
    "atomics": Allowance(factor=_EXACT, reason="exact at the same inputs"),
    "launches": Allowance(factor=_EXACT, reason="each takes microseconds that no other figure shows"),
    "programs": Allowance(factor=4.0, reason="tiles may shrink; where the work grows with their number, other figures show it"),
    "issued": Allowance(factor=1.5, reason="operations times the warps that execute them, before any compiler has removed what repeats"),
    "code_instructions": Allowance(factor=1.25, step=32, reason="unrolling and inlining vary with the text around"),
    "packed": Allowance(factor=0.8, least=True, reason="floating instructions on whole vectors: fewer means that loops are not vectorised"),
    "scalar": Allowance(factor=1.5, step=16, reason="floating instructions on single numbers: tails have some"),
    "calls": Allowance(factor=1.25, step=4, reason="a call in a loop keeps it from being vectorised"),
}  # fmt: skip
# Whether a kernel compiles and runs at all, where the old one did.
POSSIBLE = ("compiles", "runs")
_POSSIBLE = Allowance(factor=_EXACT, least=True, reason="the old kernel did")


def allowance(name: str, declared: Mapping[str, float]) -> Allowance:
    """The allowance of figure ``name``. ``declared``: factors of the spec. Raises ``KeyError`` for a figure that does not exist."""
    if name in POSSIBLE:
        return _POSSIBLE
    default = DEFAULTS[name]
    if name not in declared:
        return default
    return Allowance(factor=declared[name], least=default.least, reason="declared by the spec")
