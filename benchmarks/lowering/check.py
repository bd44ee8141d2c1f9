"""Whether the sixty references are fit to test lowering: they run, their oracle judges, it refuses impostors, they can be traced.

Prints a table, a row a spec: eager microseconds of each case; torch.compile's verdict on the cases; of a dozen draws of the property
plan how many were excluded; of the others how many refuse zeros and how many an input passed through; what traces. The exit status is
1 where a reference fails, where more than a third of the draws are excluded, or where half of them or fewer refuse an impostor.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.specs import collect
from kevolve.evaluate.compare import compare
from kevolve.evaluate.draws import drawn
from kevolve.evaluate.materialise import grad_outputs, materialise
from kevolve.evaluate.oracle import Expected, ReferenceFailed, conditioned, expect, flat
from kevolve.spec.reference import resolve
from kevolve.spec.spec import Draw, Spec

HERE = Path(__file__).resolve().parent
DRAWS, SEED = 12, 7
MOST_EXCLUDED = DRAWS // 3
TIMED_S, CALLS = 0.5, 300  # of a case, whichever ends first; at least three calls
SECOND_LOOK = 1 << 16  # input elements up to which the conditioning is measured before an impostor is called refused


@dataclass(slots=True, kw_only=True)
class Row:
    """What was found of one spec. ``problems`` make the check fail; the rest is for the table."""

    spec: Spec
    eager_us: list[float] = field(default_factory=list)
    compiled: str = "-"
    judged: int = 0
    excluded: int = 0
    zeros: str = "-"
    passed: str = "-"
    traces: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def main() -> int:
    """Check every spec, or those named. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="specs to check (default: all)")
    parser.add_argument("--threads", type=int, default=2, help="threads of eager and compiled runs (default: 2)")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes most of the time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    specs = collect(folder=HERE)
    rows = [checked(specs[name], compiling=not options.no_compile) for name in options.names or specs]
    print(table(rows))
    for problem in [f"{row.spec.name}: {problem}" for row in rows for problem in row.problems]:
        print(problem)
    return 1 if any(row.problems for row in rows) else 0


def checked(spec: Spec, *, compiling: bool) -> Row:
    """Everything that is checked of one spec."""
    started = time.perf_counter()
    row = Row(spec=spec)
    try:
        run_cases(row)
        judge_draws(row)
        if compiling:
            compile_cases(row)
    except ReferenceFailed as failed:
        row.problems.append(str(failed))
    trace(row)
    print(f"{spec.name}: {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)
    return row


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    head = ("spec", "eager [us]", "compile", "excluded", "zeros refused", "input refused", "export", "make_fx", "symbolic")
    body = [
        (
            row.spec.name,
            " ".join(f"{us:.0f}" for us in row.eager_us),
            row.compiled,
            f"{row.excluded}/{row.judged + row.excluded}",
            row.zeros,
            row.passed,
            *row.traces.values(),
        )
        for row in rows
    ]
    return tabulate(body, head, disable_numparse=True)


# --- cases ---


def run_cases(row: Row) -> None:
    """Run and time the reference, forward and backward, on every case."""
    for case in row.spec.cases:
        draw = Draw(values=case.values, seed=SEED)
        inputs = materialise(row.spec, draw)
        row.eager_us.append(least_us(runner(row.spec, draw, inputs, copying=False)))


def runner(spec: Spec, draw: Draw, inputs: Sequence[Any], *, compiling: bool = False, copying: bool = True) -> Callable[[], list[Any]]:
    """A call of the reference that returns what a kernel must: outputs, gradients, mutated inputs (copies of them, unless timed)."""
    call = resolve(spec.reference, draw.values)
    call = torch.compile(call) if compiling else call
    wanted = [spec.reference.inputs.index(name) for name in spec.grad]
    mutated = [spec.reference.inputs.index(name) for name in spec.mutates]

    def run() -> list[Any]:
        own = list(inputs)
        for position in mutated if copying else ():
            own[position] = own[position].clone()
        for position in wanted:
            own[position] = own[position].detach().requires_grad_()
        outputs = flat(call(*own))
        gradients = torch.autograd.grad(outputs, [own[position] for position in wanted], grads(spec, draw, outputs)) if wanted else ()
        return [output.detach() for output in outputs] + list(gradients) + [own[position] for position in mutated]

    return run


def grads(spec: Spec, draw: Draw, outputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The gradients of the outputs that the oracle takes, too."""
    return list(grad_outputs(spec, draw, outputs))


def least_us(call: Callable[[], Any]) -> float:
    """The least of repeated calls, after one to warm up: neighbours on the machine only add."""
    call()
    seen: list[float] = []
    end = time.perf_counter() + TIMED_S
    while len(seen) < 3 or (time.perf_counter() < end and len(seen) < CALLS):
        before = time.perf_counter()
        call()
        seen.append((time.perf_counter() - before) * 1e6)
    return min(seen)


def compile_cases(row: Row) -> None:
    """The compiled reference on every case, compared with the oracle as a kernel is."""
    verdicts = []
    for case in row.spec.cases:
        torch._dynamo.reset()
        draw = Draw(values=case.values, seed=SEED)
        inputs = materialise(row.spec, draw)
        try:
            outputs = runner(row.spec, draw, inputs, compiling=True)()
        except Exception as error:  # noqa: BLE001  # whatever the compiler raises is its verdict on the reference
            verdicts.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
            continue
        outcome = compare(row.spec, expect(row.spec, draw, inputs), outputs, inputs, draw=draw)
        verdicts.append("" if outcome.passed else f"{outcome.status}: {outcome.message.splitlines()[0]}")
    wrong = [f"compiled, case {case.id}: {verdict}" for case, verdict in zip(row.spec.cases, verdicts, strict=True) if verdict]
    row.problems += wrong
    row.compiled = f"{len(wrong)} of {len(verdicts)} fail" if wrong else "right"


# --- draws ---


def judge_draws(row: Row) -> None:
    """A dozen draws of the property plan: excluded or judged, and whether the judged ones refuse impostors."""
    zeros: dict[str, list[bool]] = {}
    passed: dict[str, list[bool]] = {}
    for draw in drawn(row.spec, seed=SEED, cap=None, examples=DRAWS):
        inputs = materialise(row.spec, draw)
        expected = expect(row.spec, draw, inputs)
        if expected.unreliable is not None:
            row.excluded += 1
            continue
        row.judged += 1
        if sum(value.numel() for value in inputs if isinstance(value, torch.Tensor)) <= SECOND_LOOK:
            expected = conditioned(row.spec, draw, inputs, expected)
        right = [output.oracle.to(output.dtype) for output in expected.outputs]
        if not _accepts(row.spec, expected, right, inputs):
            row.problems.append(f"the rounded oracle is refused on {draw.to_json()}")
        for position, output in enumerate(right):
            if not output.numel():
                continue
            _note(zeros, f"output {position}", row.spec, expected, right, position, torch.zeros_like(output), inputs)
            for place, value in _alike(inputs, output):
                _note(passed, f"output {position}, input {place}", row.spec, expected, right, position, value, inputs)
    if row.excluded > MOST_EXCLUDED:
        row.problems.append(f"{row.excluded} of {row.excluded + row.judged} draws are excluded")
    few = [key for key, refused in zeros.items() if 3 * len(refused) < row.judged]
    row.problems += [f"{key} is zero on two thirds of {row.judged} draws" for key in few]
    row.zeros = _least(row, "zeros", zeros)
    row.passed = _least(row, "an input passed through", passed)


def _note(
    found: dict[str, list[bool]],
    key: str,
    spec: Spec,
    expected: Expected,
    right: Sequence[torch.Tensor],
    position: int,
    impostor: torch.Tensor,
    inputs: Sequence[Any],
) -> None:
    """Whether the impostor is refused. What equals the right answer (a window of one pixel, a class that is alone) is none."""
    if not torch.equal(impostor, right[position]):
        outputs = [*right[:position], impostor, *right[position + 1 :]]
        found.setdefault(key, []).append(not _accepts(spec, expected, outputs, inputs))


def _alike(inputs: Sequence[Any], output: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """The inputs that a kernel could return in place of this output."""
    for place, value in enumerate(inputs):
        if isinstance(value, torch.Tensor) and value.shape == output.shape and value.dtype != torch.bool:
            yield place, value.to(output.dtype).contiguous()


def _accepts(spec: Spec, expected: Expected, outputs: Sequence[torch.Tensor], inputs: Sequence[Any]) -> bool:
    return compare(spec, expected, outputs, inputs).passed


def _least(row: Row, what: str, found: dict[str, list[bool]]) -> str:
    """The output (and input) refused least often, as ``refused/judged``."""
    if not found:
        return "-"
    key, least = min(found.items(), key=lambda item: sum(item[1]) / len(item[1]))
    if 2 * sum(least) <= len(least):
        row.problems.append(f"{what} as {key}: refused on {sum(least)} of {len(least)} draws only")
    return f"{sum(least)}/{len(least)}"


# --- traces ---


def trace(row: Row) -> None:
    """Trace the reference on its first case: torch.export, make_fx on its sizes, make_fx with symbolic sizes."""
    case = row.spec.cases[0]
    inputs = materialise(row.spec, Draw(values=case.values, seed=SEED))
    call = resolve(row.spec.reference, case.values)
    for name, tracer in (("export", _export), ("make_fx", _make_fx), ("symbolic", _symbolic)):
        try:
            row.traces[name] = str(tracer(call, inputs))
        except Exception as error:  # noqa: BLE001  # whatever the tracer raises is what the table is for
            row.traces[name] = type(error).__name__
            row.problems.append(f"{name} does not trace: {type(error).__name__}: {str(error).strip().splitlines()[0]:.200}")


def _export(call: Callable[..., Any], inputs: Sequence[Any]) -> int:
    """The operators of the exported program, core ATen."""

    class Wrapped(torch.nn.Module):
        def forward(self, *given: Any) -> Any:
            return call(*given)

    program = torch.export.export(Wrapped(), tuple(_copies(inputs))).run_decompositions()
    return _operators(program.graph)


def _make_fx(call: Callable[..., Any], inputs: Sequence[Any], mode: str = "real") -> int:
    """The operators of the graph, core ATen."""
    from torch._decomp import core_aten_decompositions
    from torch.fx.experimental.proxy_tensor import make_fx

    given = _copies(inputs)
    return _operators(make_fx(call, decomposition_table=core_aten_decompositions(), tracing_mode=mode)(*given).graph)


def _symbolic(call: Callable[..., Any], inputs: Sequence[Any]) -> int:
    return _make_fx(call, inputs, "symbolic")


def _copies(inputs: Sequence[Any]) -> list[Any]:
    return [value.clone() if isinstance(value, torch.Tensor) else value for value in inputs]


def _operators(graph: torch.fx.Graph) -> int:
    return sum(node.op == "call_function" for node in graph.nodes)


if __name__ == "__main__":
    sys.exit(main())
