"""What may be said of the cases of a spec before anything ran on them: the least that each can take on a device of known peaks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from kevolve.evaluate.feedback import light
from kevolve.evaluate.floor import case_work
from kevolve.evaluate.oracle import flat, forward
from kevolve.spec.dtypes import DTYPES
from kevolve.spec.inputs import Scalar, Tensor
from kevolve.spec.reference import resolve
from kevolve.spec.spec import Case, Draw, Spec, Work
from kevolve.targets import Peaks


def known_cases(spec: Spec, cases: Iterable[Case], peaks: Peaks, *, unread: frozenset[str]) -> dict[str, dict[str, Any]]:
    """By case id ``floor_us`` and the ``bound`` of it, each where it is known; nothing of a case that nobody can foresee.

    Without ``work=`` the floor is of the bytes alone, and they are named as its bound where the reference's own products would take less
    at the device's rate. ``unread``: inputs that are read in part only (``Run.unread``).
    """
    known: dict[str, dict[str, Any]] = {}
    for case in cases:
        if spec.work is not None:
            known[case.id] = light(spec.work(**case.values), peaks)
            continue
        work = foreseen_work(spec, case, unread=unread)
        known[case.id] = said = light(Work(bytes=work.bytes), peaks) if work is not None else {}
        rate = peaks.operations.get(work.dtype) if work is not None else None
        if said and (rate is None or work is None or work.operations / rate * 1e6 > said["floor_us"]):
            del said["bound"]
    return known


def foreseen_work(spec: Spec, case: Case, *, unread: frozenset[str]) -> Work | None:
    """The least bytes of a case from its description and the shapes of the reference's outputs, without any contents.

    ``operations``: of the reference's products, which another order may need fewer of. None where contents decide shapes (a function
    makes the inputs, lengths are drawn, the reference looks at values).
    """
    described = spec.describe(**case.values)
    if callable(described) or not all(isinstance(item, Tensor | Scalar | int | float | None) for item in described):
        return None
    inputs = tuple(_shape_of(item) for item in described)
    try:
        with FlopCounterMode(display=False) as counter:
            read, written = _ran(spec, case, inputs)
    except Exception:  # noqa: BLE001  a user's own code on tensors without contents: whatever it says, nothing is known
        return None
    moved = case_work(spec, case, read, written, unread=unread).bytes
    floating = [item.dtype for item in described if isinstance(item, Tensor) and DTYPES[item.dtype].kind == "float"]
    return Work(bytes=moved, operations=float(counter.get_total_flops()), dtype=floating[0] if floating else "float32")


def _ran(spec: Spec, case: Case, inputs: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """What a call reads and what it gives, gradients among them, as ``case_work`` takes them. Raises what the reference raises."""
    named = dict(zip(spec.reference.inputs, inputs, strict=False))
    mutated = [named[name] for name in spec.mutates]
    if not spec.grad:
        return inputs, (*forward(spec, Draw(values=case.values, seed=0), inputs), *mutated)
    wanted = [named[name].requires_grad_() for name in spec.grad]
    outputs = flat(resolve(spec.reference, case.values)(*inputs))
    floating = [output for output in outputs if isinstance(output, torch.Tensor) and output.is_floating_point()]
    upstream = [torch.empty_like(output) for output in floating]
    grads = torch.autograd.grad(floating, wanted, upstream)
    return (*inputs, *upstream), (*outputs, *grads, *mutated)


def _shape_of(item: Any) -> Any:
    """A tensor on the device ``meta`` in place of a described one."""
    if isinstance(item, Tensor):
        return torch.empty(item.shape, dtype=getattr(torch, item.dtype), device="meta")
    return item.value if isinstance(item, Scalar) else item
