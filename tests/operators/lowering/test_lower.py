"""A lowered program computes what its reference does: worked out by PyTorch at sizes that it was not traced at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluated import Evaluated
from torch.nn import functional

from kevolve import Scalar, Tensor, sizes
from kevolve.evaluate.materialise import materialise
from kevolve.operators.lowering.expression import make, place
from kevolve.operators.lowering.index import Index, Quotient, Remainder, Size
from kevolve.operators.lowering.lower import Uncovered, lower
from kevolve.operators.lowering.program import Kernel, Program
from kevolve.operators.lowering.sizes import _scalar_name
from kevolve.operators.lowering.steps import indices, parts
from kevolve.spec.domain import Sizes
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Draw, Spec


def softmax(x: Any) -> Any:
    return x.float().softmax(-1).to(x.dtype)


def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    return functional.layer_norm(x, x.shape[-1:], weight, bias, 1e-5)


def rms_norm(x: Any, weight: Any) -> Any:
    return functional.rms_norm(x, x.shape[-1:], weight, 1e-6)  # torch writes in place inside


def gelu_tanh(x: Any) -> Any:
    return functional.gelu(x, approximate="tanh")


def group_norm(x: Any, groups: int) -> Any:
    grouped = x.unflatten(1, (groups, -1))
    mean = grouped.mean((2, 3), keepdim=True)
    return ((grouped - mean) * torch.rsqrt((grouped - mean).square().mean((2, 3), keepdim=True) + 1e-5)).flatten(1, 2)


def column_sum_and_scaled(x: Any, scale: float) -> Any:
    scaled = x * scale
    return scaled, scaled.sum(0)


def linear_relu(x: Any, weight: Any, bias: Any) -> Any:
    return functional.linear(x, weight, bias).relu()


def rotated(x: Any) -> Any:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def padded_difference(x: Any) -> Any:
    return functional.pad(x, (1, 0))[:, 1:] - functional.pad(x, (1, 0))[:, :-1]


def looked_up(x: Any, table: Any) -> Any:
    return table[x] * math.sqrt(table.shape[1])


def bucket_counts(x: Any, borders: Any) -> Any:
    index = torch.bucketize(x, borders)
    return torch.zeros(len(borders) + 1, dtype=torch.int64).index_add(0, index, torch.ones_like(index))


def running(x: Any) -> Any:
    return x.flip(1).cumsum(1).flip(1)


def best(x: Any) -> Any:
    value, place = x.max(1)
    return value, place, x.argmin(0)


def moved_average(x: Any, mean: Any, step: int) -> None:
    mean.mul_(0.9).add_(x, alpha=0.1)
    x.sub_(mean / (1 - 0.9**step))


def shifted_in_place(x: Any, total: Any) -> None:
    total.copy_(x.sum(0))
    x.copy_(x.flip(0) + total)


def weighted_by_place(x: Any, base: float) -> Any:
    return x * base ** torch.arange(x.shape[1], dtype=torch.float32)


def unrolled(x: Any) -> Any:
    state = torch.zeros_like(x[0])
    for row in range(x.shape[0]):
        state = 0.5 * state + x[row]
    return state


def sorted_rows(x: Any) -> Any:
    return x.sort(-1).values


def spec_of(reference: Callable[..., Any], describe: Callable[..., Any], names: Sequence[str], /, **more: Any) -> Spec:
    import inspect

    return Spec(
        name=reference.__name__,
        nodeid=f"t.py::test_{reference.__name__}",
        folder=Path(),
        describe=describe,
        reference=Reference(
            module=__name__, qualname=reference.__name__, file=Path(__file__), inputs=tuple(inspect.signature(reference).parameters)
        ),
        cases=(Case(id="1", values=dict.fromkeys(names, 4)),),
        vary={name: sizes(1, 64) for name in names},
        choices={},
        hash=reference.__name__,
        **more,
    )


IMAGE = ("batch", "each", "width")
SPECS = {
    "softmax": spec_of(softmax, lambda rows, cols: (Tensor(rows, cols),), ("rows", "cols")),
    "layer_norm": spec_of(layer_norm, lambda rows, cols: (Tensor(rows, cols), Tensor(cols), Tensor(cols)), ("rows", "cols")),
    "rms_norm": spec_of(rms_norm, lambda rows, cols: (Tensor(rows, cols), Tensor(cols)), ("rows", "cols")),
    "gelu_tanh": spec_of(gelu_tanh, lambda rows, cols: (Tensor(rows, cols, low=-9.0, high=9.0),), ("rows", "cols")),
    "group_norm": spec_of(group_norm, lambda batch, each, width: (Tensor(batch, 3 * each, width), 3), IMAGE),
    "column_sum_and_scaled": spec_of(
        column_sum_and_scaled, lambda rows, cols: (Tensor(rows, cols), Scalar(value=1.5, low=0.5, high=2.0)), ("rows", "cols")
    ),
    "linear_relu": spec_of(linear_relu, lambda rows, k, n: (Tensor(rows, k), Tensor(n, k), Tensor(n)), ("rows", "k", "n")),
    "rotated": spec_of(rotated, lambda rows, half: (Tensor(rows, 2 * half),), ("rows", "half")),
    "padded_difference": spec_of(padded_difference, lambda rows, cols: (Tensor(rows, cols),), ("rows", "cols")),
    "looked_up": spec_of(
        looked_up, lambda count, rows, dim: (Tensor(count, dtype="int64", low=0, high=rows), Tensor(rows, dim)), ("count", "rows", "dim")
    ),
    "bucket_counts": spec_of(bucket_counts, lambda count, borders: (Tensor(count), Tensor(borders, sorted=True)), ("count", "borders")),
    "running": spec_of(running, lambda rows, cols: (Tensor(rows, cols),), ("rows", "cols")),
    "best": spec_of(best, lambda rows, cols: (Tensor(rows, cols),), ("rows", "cols")),
    "moved_average": spec_of(
        moved_average,
        lambda count: (Tensor(count), Tensor(count), Scalar(value=10, low=1, high=1000)),
        ("count",),
        mutates=("x", "mean"),
    ),
    "weighted_by_place": spec_of(
        weighted_by_place, lambda rows, cols: (Tensor(rows, cols), Scalar(value=0.9, low=0.5, high=1.0)), ("rows", "cols")
    ),
    "shifted_in_place": spec_of(
        shifted_in_place, lambda rows, cols: (Tensor(rows, cols), Tensor(cols)), ("rows", "cols"), mutates=("x", "total")
    ),
}


def differs(program: Program, spec: Spec, values: dict[str, int]) -> None:
    inputs = materialise(spec, Draw(values=values, seed=3))
    own = [item.clone() if isinstance(item, torch.Tensor) else item for item in inputs]
    returned = globals()[spec.reference.qualname](*own)
    expected = list(returned) if isinstance(returned, tuple | list) else [returned] if returned is not None else []
    expected += [own[spec.reference.inputs.index(name)] for name in spec.mutates]
    results = Evaluated(program, inputs).run()
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected, strict=True):
        assert result.shape == wanted.shape
        torch.testing.assert_close(result.double(), wanted.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SPECS)
def test_a_program_gives_what_its_reference_gives_at_other_sizes(name: str) -> None:
    spec = SPECS[name]
    program = lower(spec)
    names = [name for name, domain in spec.vary.items() if isinstance(domain, Sizes)]
    for chosen in ([1] * 3, [2, 3, 5], [6, 1, 4], [1, 9, 2]):
        differs(program, spec, dict(zip(names, chosen, strict=False)))


def kernels(name: str) -> list[Kernel]:
    return lower(SPECS[name]).kernels


def test_a_softmax_is_one_kernel_of_three_passes_over_each_row() -> None:
    (kernel,) = kernels("softmax")
    assert (kernel.form, [[step.kind for step in each.steps] for each in kernel.passes]) == ("rows", [["reduce"], ["reduce"], ["map"]])
    assert len(kernel.grid) == 1


def test_tanh_and_one_more_is_one_exponential() -> None:
    (kernel,) = kernels("gelu_tanh")
    (store,) = [store for step in kernel.steps for store in step.stores]
    assert "sigmoid" in repr(store.value)
    assert "tanh" not in repr(store.value)


def test_a_column_sum_and_what_it_sums_are_one_pass_with_lanes_along_the_columns() -> None:
    (kernel,) = kernels("column_sum_and_scaled")
    assert kernel.form == "columns"
    assert sorted(step.kind for step in kernel.passes[0].steps) == ["map", "reduce"]


def test_what_views_cut_and_join_again_costs_no_kernel_and_no_division() -> None:
    (kernel,) = kernels("group_norm")
    assert kernel.form == "rows"
    places = [index for step in kernel.steps for part in parts(step) for index in indices(part.value)]
    assert not any(isinstance(atom, Quotient | Remainder) for place in places for atom in place.atoms)


def test_a_matrix_product_takes_its_epilogue_in() -> None:
    (kernel,) = kernels("linear_relu")
    assert (kernel.form, [step.kind for step in kernel.steps]) == ("product", ["product", "map"])


def test_a_concatenation_is_stored_part_by_part_without_conditions() -> None:
    program = lower(SPECS["rotated"])
    stores = [store for kernel in program.kernels for step in kernel.steps for store in step.stores]
    assert len(stores) == 2
    assert not any("where" in repr(store.value) for store in stores)


def test_names_and_lines_are_the_references() -> None:
    (kernel,) = kernels("column_sum_and_scaled")
    assert "scaled = x * scale" in " ".join(kernel.lines) or "return scaled, scaled.sum(0)" in kernel.lines
    assert "scaled" in [buffer.name for buffer in lower(SPECS["column_sum_and_scaled"]).outputs]


def test_the_name_of_a_number_of_several_lengthsis_the_same_in_every_process() -> None:
    names = [f"s{number}" for number in range(8)]  # sets of names are ordered by a hash that each process draws anew
    lengths = [Index.of(Size(name)) for name in names]
    assert _scalar_name(make("cast", "float64", (place(math.prod(lengths, start=Index.of(1))),))) == "_".join([*names, "cast"])


def test_mutated_inputs_are_written_in_one_step_after_all_is_read() -> None:
    program = lower(SPECS["moved_average"])
    (step,) = [step for kernel in program.kernels for step in kernel.steps]
    assert {store.buffer.name for store in step.stores} == {"x", "mean"} == {buffer.name for buffer in program.mutated}
    assert [name for name, _ in program.scalars]  # 1 - 0.9 ** step is worked out once, in double


def test_an_expensive_number_of_a_column_is_worked_out_once_and_not_in_every_row() -> None:
    table, rows = kernels("weighted_by_place")
    assert len(table.grid) == 1
    assert "pow" in repr([store.value for step in table.steps for store in step.stores])
    assert "pow" not in repr([store.value for step in rows.steps for store in step.stores])


def test_a_loop_over_an_axis_is_told_with_the_axis() -> None:
    spec = spec_of(unrolled, lambda rows, cols: (Tensor(rows, cols),), ("rows", "cols"))
    with pytest.raises(Uncovered, match=r"it fixes the size axis 0 of x \(a Python loop over it"):
        lower(spec)


def test_an_operator_that_nothing_covers_is_told_with_its_line_and_stays_a_call_where_it_is_allowed() -> None:
    spec = spec_of(sorted_rows, lambda rows, cols: (Tensor(rows, cols),), ("rows", "cols"), allow=("aten::sort",))
    with pytest.raises(Uncovered, match=r'aten::sort is not covered \(in "return x.sort\(-1\).values"\)'):
        lower(spec)
    program = lower(spec, library=True)
    assert [step.operator for kernel in program.kernels for step in kernel.steps if step.kind == "call"] == ["aten::sort"]
