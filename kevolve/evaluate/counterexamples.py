"""Draws that once made a kernel fail, kept as JSON beside its test and replayed first for ever after."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from kevolve.spec.spec import Draw, Spec, decode

MOST = 32


def path(spec: Spec) -> Path:
    """``kernels/<spec>/counterexamples.json`` beside the test."""
    return spec.folder / "kernels" / spec.name / "counterexamples.json"


def load(spec: Spec) -> list[Draw]:
    """The kept draws, oldest first; those that the spec's arguments no longer fit are left out.

    Raises ``ValueError`` naming the file where it is not what ``save`` writes.
    """
    file = path(spec)
    if not file.exists():
        return []
    try:
        read = json.loads(file.read_text())
        draws = [decode(spec, Draw.from_json(json.dumps(fields))) for fields in read["draws"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{file}: expected {{"draws": [{{"values": {{…}}, "seed": N}}]}}, got something else ({error})') from error
    return [draw for draw in draws if fits(spec, draw)]


def fits(spec: Spec, draw: Draw) -> bool:
    """Whether the draw names the spec's arguments and keeps within what they may be."""
    if set(draw.values) != {*spec.vary, *spec.choices}:
        return False
    in_domain = all(domain.contains(draw.values[name]) for name, domain in spec.vary.items())
    return in_domain and all(draw.values[name] in given for name, given in spec.choices.items())


def save(spec: Spec, draw: Draw) -> bool:
    """Keep ``draw``, atomically; whether it is new. The oldest beyond ``MOST`` are dropped."""
    kept = [other.to_json() for other in load(spec)]
    if draw.to_json() in kept:
        return False
    _write(path(spec), [*kept, draw.to_json()][-MOST:])
    return True


def _write(file: Path, draws: Sequence[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"    {draw}" for draw in draws)
    written = file.with_name(f".{file.name}.{os.getpid()}")
    written.write_text(f'{{\n  "draws": [\n{lines}\n  ]\n}}\n')
    written.replace(file)
