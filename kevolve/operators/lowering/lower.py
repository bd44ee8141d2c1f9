"""A spec's reference as a ``Program``: the graph, its steps, the kernels that they make."""

from __future__ import annotations

import re
from typing import Any

from kevolve.operators.lowering import fusion, steps
from kevolve.operators.lowering.capture import Captured, Uncovered, capture
from kevolve.operators.lowering.expression import FLOATS, Buffer, Expression, make
from kevolve.operators.lowering.front import Front
from kevolve.operators.lowering.index import Index
from kevolve.operators.lowering.program import Kernel, Program, Step
from kevolve.operators.lowering.sizes import SizeTable
from kevolve.operators.lowering.values import Value
from kevolve.spec.spec import Spec

RESERVED = {
    "and",
    "or",
    "not",
    "in",
    "is",
    "for",
    "if",
    "else",
    "int",
    "float",
    "double",
    "bool",
    "auto",
    "const",
    "lambda",
    "long",
    "short",
}


def lower(spec: Spec, *, backward: bool = False, library: bool = False) -> Program:
    """The program of the reference, or of its gradients. ``library``: whether the language can call what ``spec.allow`` names.

    Raises ``Uncovered`` with the reason, for its author to read.
    """
    names = frozenset(name.partition(".")[0] for name in spec.allow)
    return program(capture(spec, backward=backward), names if library else frozenset())


def program(captured: Captured, callable: frozenset[str] = frozenset()) -> Program:
    """The program of a captured graph. ``callable``: library operators that stay calls (``aten::mm``)."""
    taken = {item.name for item in captured.inputs} | RESERVED | {captured.entry}
    front = Front(captured, SizeTable(captured, taken), callable)
    front.run()
    outputs = [_output(front, number, value) for number, value in enumerate(front.outputs) if value is not None]
    originals = frozenset(buffer for buffer, value in front.mutated if not _mutate(front, buffer, value))
    needed = _needed(front.steps, [*outputs, *(buffer for buffer, _ in front.mutated)])
    made = fusion.kernels(needed, front.workspace, originals)
    for buffer in originals:
        _keep_original(front, buffer, made)
    order = {text: number for number, (text, _) in enumerate(captured.lines.values())}
    for kernel in made:
        kernel.lines = tuple(sorted(kernel.lines, key=lambda line: order.get(line, 0)))
    used = {buffer for kernel in made for step in kernel.steps for buffer in (steps.loaded(step) | steps.written(step))}
    return Program(
        entry=captured.entry,
        arguments=front.arguments,
        outputs=outputs,
        kernels=made,
        sizes=front.sizes.definitions,
        scalars=front.sizes.scalars,
        workspaces=[buffer for buffer in front.workspaces if buffer in used and buffer.role == "workspace"],
        fills=[(buffer, content) for buffer, content in front.fills if buffer in used],
        mutated=[buffer for buffer, _ in front.mutated],
        checks=front.sizes.checks,
        doc=captured.doc,
        single=captured.single,
    )


def _output(front: Front, number: int, value: Value) -> Buffer:
    """The memory of an output; steps that write it where it is not written whole already."""
    fake = next(node for node in front.captured.graph.nodes if node.op == "output").args[0]
    node = (fake if isinstance(fake, list | tuple) else [fake])[number]
    dtype = str(node.meta["val"].dtype).removeprefix("torch.")
    like = front.captured.likes[number] if number < len(front.captured.likes) else None
    name = value.name if re.fullmatch(r"[a-z]\w*", value.name or "") else "out"
    buffer = value.buffer
    if buffer is not None and buffer.role == "workspace" and buffer.shape == value.shape and _fits(front, buffer, dtype, like):
        buffer.role, buffer.dtype, buffer.like = "output", dtype, like
        return buffer
    output = Buffer(front.sizes.unused(name), value.shape, dtype, "output", like)
    front.store(value, output, Index.of(0), output.strides)
    return output


def _fits(front: Front, buffer: Buffer, dtype: str, like: str | None) -> bool:
    """Whether what is written there one by one may be the output itself: sums in a narrow dtype may not."""
    if buffer.dtype == dtype and like is None:
        return True
    writers = [step for step in front.steps if any(store.buffer is buffer for store in step.stores)]
    sources = [content for other, content in front.fills if other is buffer and isinstance(content, Buffer)]
    read = any(buffer in steps.loaded(step) for step in front.steps)
    copied = all(step.combine == "set" for step in writers if step.kind == "scatter") and all(source.like == like for source in sources)
    return copied and not read and dtype in FLOATS


def _mutate(front: Front, target: Buffer, value: Value) -> bool:
    """Write a mutated input. Whether a scatter into a copy of it now goes into itself, so that reads of it are of what is new."""
    copy = value.buffer
    if copy is not None and (copy, target) in front.fills and not any(target in steps.loaded(step) for step in front.steps):
        front.fills.remove((copy, target))
        front.workspaces.remove(copy)
        for step in front.steps:
            for store in step.stores:
                store.buffer = target if store.buffer is copy else store.buffer
            steps.change(step, {}, lambda part: _moved(part, copy, target))
        return True
    front.store(value, target, Index.of(0), target.strides)
    return False


def _keep_original(front: Front, buffer: Buffer, made: list[Kernel]) -> None:
    """Reads of a mutated input that may come after its write go to a copy from before."""
    copy: Buffer | None = None
    begun = False
    for kernel in made:
        writers = [step for step in kernel.steps if any(store.buffer is buffer for store in step.stores)]
        begun = begun or bool(writers)
        for step in kernel.steps if begun else ():
            safe = {store.place for store in step.stores if store.buffer is buffer}
            late = [part for part in steps.parts(step) if part.op == "load" and part.value[0] is buffer and part.value[1] not in safe]
            if late:
                copy = copy or front.workspace(f"{buffer.name}_before", buffer.shape, buffer.dtype)
                copy.like = buffer.like
                steps.change(step, {}, lambda part, late=late, copy=copy: _of_copy(part, late, copy))  # type: ignore[misc]
    if copy is not None:
        front.fills.append((copy, buffer))


def _of_copy(part: Expression, late: list[Expression], copy: Buffer) -> Expression | None:
    return make("load", part.dtype, part.arguments, (copy, part.value[1])) if any(part is one for one in late) else None


def _moved(part: Expression, copy: Buffer, target: Buffer) -> Expression | None:
    if part.op == "load" and part.value[0] is copy:
        return make("load", part.dtype, part.arguments, (target, part.value[1]))
    return None


def _needed(given: list[Step], outputs: list[Buffer]) -> list[Step]:
    """The steps that something needs, in order."""
    wanted: set[Any] = set(outputs)
    kept: list[Step] = []
    for step in reversed(given):
        if step in wanted or steps.written(step) & wanted:
            kept.append(step)
            wanted |= {other for other, _ in steps.results(step)} | steps.loaded(step)
    return list(reversed(kept))


__all__ = ["Uncovered", "lower", "program"]
