"""The impostors that a spec must refuse, by name, and the way out for the few specs whose right answer looks like one (``admits=``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

TILE = 32  # elements of the tile that a kernel forgets

IMPOSTORS: Mapping[str, str] = {
    "zeros": "zeros",
    "constant": "one number everywhere, learnt from an earlier call",
    "mean": "the mean of the right output in all its elements",
    "row mean": "the mean of each row of the right output in all the row's elements",
    "replay": "the right output of another call with the same sizes",
    "halved": "half of every element",
    "half": "the first half right, the second half zeros",
    "prefix": "the first half right, the rest from another call",
    "sampled prefix": "computed from the first half of each row of the inputs alone",
    "last tile": f"the last tile (up to {TILE} elements) zeros, all else right",
    "lower accumulation": "sums accumulated one dtype lower",
    "wrong axis": "computed along another axis",
    "zero gradient": "a gradient of zeros",
}  # and "input 0", "input 1" …: an input passed through
_INPUT = re.compile(r"input \d+")
_OUTPUT = re.compile(r" of output \d+$")


def meaning(name: str, inputs: tuple[str, ...]) -> str:
    """What the impostor ``name`` gives. ``inputs``: the names of the reference's inputs."""
    if name in IMPOSTORS:
        return IMPOSTORS[name]
    position = int(name.removeprefix("input "))
    return f"the input {inputs[position]!r} passed through" if position < len(inputs) else "an input passed through"


def reason(admits: Mapping[str, str], name: str, label: str) -> str | None:
    """Why the spec lets an impostor pass, declared for every output or for the one that ``label`` names; None where it does not."""
    return admits.get(label, admits.get(name))


def admits_problems(admits: Any) -> Iterator[str]:
    """What is wrong with ``admits=``, each as ``expected …, got …``."""
    if not isinstance(admits, Mapping):
        yield f"admits: expected reasons by impostor, got {admits!r}"
        return
    for name, why in admits.items():
        plain = _OUTPUT.sub("", str(name))
        if plain not in IMPOSTORS and not _INPUT.fullmatch(plain):
            yield f"admits: expected one of {', '.join(IMPOSTORS)} or input 0, input 1 … (perhaps with ' of output 1'), got {name!r}"
        if not isinstance(why, str) or not why.strip():
            yield f"admits {name!r}: expected the reason why a right kernel looks like that, got {why!r}"
