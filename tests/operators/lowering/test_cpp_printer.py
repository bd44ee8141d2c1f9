"""What C++ prints computes what its program says: every form by hand-built programs, sizes around tails, every dtype, strided inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kevolve.languages.cpp import Cpp
from kevolve.languages.cpp_source import parse_problem, policy_problem
from kevolve.operators.lowering.cpp import printer as cpp
from kevolve.operators.lowering.expression import FLOATS, Buffer, Expression, as_index, constant, make, place
from kevolve.operators.lowering.index import Axis, Index, Size
from kevolve.operators.lowering.printing import Unprintable
from kevolve.operators.lowering.program import Argument, Kernel, Pass, Program, Step, Store
from tests.operators.test_samples_cpp import TOLERANCE, compile_source, expect_close, layouts, torch_outputs

FLOAT = "float32"
COLS = [0, 1, 7, 37, 64, 300]
ROWS, COLUMNS = Size("rows"), Size("cols")
needs_compiler = pytest.mark.skipif(Cpp().missing() is not None, reason=f"needs a C++ compiler: {Cpp().missing()}")


# --- building programs ---


def buffer(name: str, *shape: Size | int, dtype: str = FLOAT, role: str = "input", like: str | None = None) -> Buffer:
    return Buffer(name, tuple(map(Index.of, shape)), dtype, role, like)


def load(memory: Buffer, *places: Axis | Index | int) -> Expression:
    dtype = FLOAT if memory.dtype in FLOATS else memory.dtype
    return make("load", dtype, (), (memory, memory.place(tuple(map(Index.of, places)))))


def op(name: str, *arguments: Expression, dtype: str | None = None) -> Expression:
    return make(name, dtype or arguments[-1].dtype, arguments)


def result(step: Step, *places: Axis) -> Expression:
    return make("result", step.dtype, (), (step, tuple(map(Index.of, places))))


def stored(memory: Buffer, value: Expression, *places: Axis | Index) -> Store:
    return Store(memory, memory.place(tuple(map(Index.of, places))), value)


def number(size: Size) -> Expression:
    return make("cast", FLOAT, (place(Index.of(size)),))


def axes(*named: tuple[str, Size]) -> tuple[Axis, ...]:
    return tuple(Axis(name, Index.of(size)) for name, size in named)


def program(name: str, inputs: list[Buffer], outputs: list[Buffer], *kernels: Kernel, **more: Any) -> Program:
    sizes = [(size, (memory.name, axis)) for memory in inputs for axis, extent in enumerate(memory.shape) for size in extent.atoms]
    arguments = [Argument(memory.name, "tensor", memory) for memory in inputs] + more.pop("numbers", [])
    known: dict[Any, Any] = {}
    for size, where in sizes:
        known.setdefault(size, where)
    return Program(
        name,
        arguments,
        outputs,
        list(kernels),
        sizes=[*known.items(), *more.pop("sizes", [])],
        doc=name.replace("_", " "),
        single=len(outputs) == 1,
        **more,
    )


def softmax() -> Program:
    x, out = buffer("x", ROWS, COLUMNS, like="x"), buffer("out", ROWS, COLUMNS, role="output", like="x")
    row, *cols = axes(("row", ROWS), *[("col", COLUMNS)] * 3)
    peak = Step("peak", "reduce", (row,), FLOAT, (cols[0],), load(x, row, cols[0]), "max")

    def power(col: Axis) -> Expression:
        return op("exp", op("sub", load(x, row, col), result(peak, row)))

    total = Step("total", "reduce", (row,), FLOAT, (cols[1],), power(cols[1]))
    store = Step("out", "map", (row, cols[2]), FLOAT, stores=[stored(out, op("div", power(cols[2]), result(total, row)), row, cols[2])])
    passes = [Pass((col,), [step]) for col, step in zip(cols, (peak, total, store), strict=True)]
    return program("softmax", [x], [out], Kernel("out", "rows", (row,), passes, ("return x.softmax(-1)",)))


def exponential() -> Program:
    count = Size("count")
    (at,) = axes(("i", count))
    x, out = buffer("x", count), buffer("out", count, role="output")
    step = Step("out", "map", (at,), FLOAT, stores=[stored(out, op("exp", load(x, at)), at)])
    return program("exponential", [x], [out], Kernel("out", "columns", (at,), [Pass((), [step])]))


def column_softmax() -> Program:
    batch = Size("batch")
    x, out = buffer("x", batch, ROWS, COLUMNS, like="x"), buffer("out", batch, ROWS, COLUMNS, role="output", like="x")
    item, col, *rows = axes(("item", batch), ("col", COLUMNS), *[("row", ROWS)] * 3)
    peak = Step("peak", "reduce", (item, col), FLOAT, (rows[0],), load(x, item, rows[0], col), "max")

    def power(row: Axis) -> Expression:
        return op("exp", op("sub", load(x, item, row, col), result(peak, item, col)))

    total = Step("total", "reduce", (item, col), FLOAT, (rows[1],), power(rows[1]))
    value = op("mul", power(rows[2]), op("div", constant(1.0, FLOAT), result(total, item, col)))
    store = Step("out", "map", (item, rows[2], col), FLOAT, stores=[stored(out, value, item, rows[2], col)])
    passes = [Pass((row,), [step]) for row, step in zip(rows, (peak, total, store), strict=True)]
    return program("column_softmax", [x], [out], Kernel("out", "columns", (item, col), passes))


def bests() -> Program:
    x = buffer("x", ROWS, COLUMNS, like="x")
    best, least = buffer("best", ROWS, dtype="int64", role="output"), buffer("least", ROWS, role="output", like="x")
    positive, columns = buffer("positive", ROWS, dtype="bool", role="output"), buffer("columns", COLUMNS, dtype="int64", role="output")
    row, col, other_row, other_col = axes(("row", ROWS), ("col", COLUMNS), ("row", ROWS), ("col", COLUMNS))
    value = load(x, row, col)
    above = op("gt", value, constant(0.0, FLOAT), dtype="bool")
    steps = [
        Step("best", "reduce", (row,), "int64", (col,), value, "argmax", buffer=best),
        Step("least", "reduce", (row,), FLOAT, (col,), value, "min", buffer=least),
        Step("positive", "reduce", (row,), "bool", (col,), above, "any", buffer=positive),
    ]
    along = Step("columns", "reduce", (other_col,), "int64", (other_row,), load(x, other_row, other_col), "argmin", buffer=columns)
    kernels = [
        Kernel("best", "rows", (row,), [Pass((col,), steps)]),
        Kernel("columns", "columns", (other_col,), [Pass((other_row,), [along])]),
    ]
    return program("bests", [x], [best, least, positive, columns], *kernels)


def gelu() -> Program:
    x, bias, out = buffer("x", ROWS, COLUMNS, like="x"), buffer("bias", COLUMNS), buffer("out", ROWS, COLUMNS, role="output", like="x")
    row, col = axes(("row", ROWS), ("col", COLUMNS))
    value = op("add", load(x, row, col), load(bias, col))
    half = op(
        "mul",
        op("mul", constant(0.5, FLOAT), value),
        op("add", constant(1.0, FLOAT), op("erf", op("mul", value, constant(0.5**0.5, FLOAT)))),
    )
    chosen = op("where", op("gt", value, constant(-1.0, FLOAT), dtype="bool"), half, op("tanh", value))
    return program(
        "gelu",
        [x, bias],
        [out],
        Kernel("out", "columns", (row, col), [Pass((), [Step("out", "map", (row, col), FLOAT, stores=[stored(out, chosen, row, col)])])]),
    )


def whole() -> Program:
    x, mean, largest = buffer("x", ROWS, COLUMNS, like="x"), buffer("mean", role="output"), buffer("largest", role="output")
    row, col = axes(("row", ROWS), ("col", COLUMNS))
    total = Step("total", "reduce", (), FLOAT, (row, col), load(x, row, col))
    peak = Step("peak", "reduce", (), FLOAT, (row, col), op("abs", load(x, row, col)), "max", buffer=largest)
    count = make("cast", FLOAT, (place(Index.of(ROWS) * COLUMNS),))
    store = Step("mean", "map", (), FLOAT, stores=[stored(mean, op("div", result(total), count))])
    return program("whole", [x], [mean, largest], Kernel("mean", "whole", (), [Pass((row, col), [total, peak]), Pass((), [store])]))


def linear() -> Program:
    depth = Size("depth")
    x, weight, bias = buffer("x", ROWS, depth, like="x"), buffer("weight", COLUMNS, depth, like="x"), buffer("bias", COLUMNS, like="x")
    out = buffer("out", ROWS, COLUMNS, role="output", like="x")
    row, col, k = axes(("row", ROWS), ("col", COLUMNS), ("k", depth))
    first, second = op("maximum", load(x, row, k), constant(-2.0, FLOAT)), load(weight, col, k)
    both = Step("both", "product", (row, col), FLOAT, (k,), op("mul", first, second), first=first, second=second, across=((row,), (col,)))
    value = op("maximum", op("add", result(both, row, col), load(bias, col)), constant(0.0, FLOAT))
    store = Step("out", "map", (row, col), FLOAT, stores=[stored(out, value, row, col)])
    return program("linear", [x, weight, bias], [out], Kernel("out", "product", (row, col), [Pass((k,), [both]), Pass((), [store])]))


def sums() -> Program:
    x, out = buffer("x", ROWS, COLUMNS, like="x"), buffer("out", ROWS, COLUMNS, role="output", like="x")
    row, col = axes(("row", ROWS), ("col", COLUMNS))
    total = Step("total", "scan", (row, col), FLOAT, (col,), load(x, row, col))
    store = Step("out", "map", (row, col), FLOAT, stores=[stored(out, op("sub", result(total, row, col), load(x, row, col)), row, col)])
    return program("sums", [x], [out], Kernel("out", "scan", (row,), [Pass((col,), [total]), Pass((col,), [store])]))


def scattered() -> Program:
    count = Size("count")
    x, ids, out = (
        buffer("x", ROWS, COLUMNS, like="x"),
        buffer("ids", ROWS, dtype="int64"),
        buffer("out", count, COLUMNS, role="output", like="x"),
    )
    row, col = axes(("row", ROWS), ("col", COLUMNS))
    store = stored(out, load(x, row, col), as_index(load(ids, row)), col)
    kernel = Kernel("out", "scatter", (row, col), [Pass((), [Step("out", "scatter", (row, col), FLOAT, combine="add", stores=[store])])])
    return program("scattered", [x, ids], [out], kernel, numbers=[Argument("count", "int")], sizes=[(count, "count")], fills=[(out, 0)])


# --- building and checking ---


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Callable[[Program], Any]:
    """Prints a program, checks the text as a candidate's, compiles it and gives its entry."""
    folder: Path = tmp_path_factory.mktemp("printed")

    def build(made: Program) -> Any:
        text = cpp.source(made)
        assert policy_problem(text) is None
        assert parse_problem(text, made.entry) is None
        assert max(map(len, text.splitlines())) <= 140
        return torch_outputs(getattr(compile_source(text, folder / made.entry, shared_folder / "sample-preludes"), made.entry))

    return build


def draws(*shapes: tuple[int, ...]) -> Iterator[tuple[torch.dtype, torch.Tensor]]:
    """Tensors of each shape, dtype and layout."""
    generator = torch.Generator().manual_seed(0)
    for shape in shapes:
        for dtype in TOLERANCE:
            x = torch.randn(shape, generator=generator).to(dtype)
            yield dtype, x
            if x.numel():
                yield from ((dtype, other) for other in layouts(x))


@needs_compiler
def test_rows_agree_with_float64(built: Any) -> None:
    kernel = built(softmax())
    for dtype, x in draws(*((3, cols) for cols in COLS), (0, 37), (65, 300), (2, 2048), (2, 9001)):  # the last: several sums, and blocks
        expect_close(kernel(x), x.double().softmax(-1), dtype)


@needs_compiler
def test_columns_agree_with_float64(built: Any) -> None:
    kernel = built(column_softmax())
    for dtype, x in draws(*((2, 5, cols) for cols in COLS), (0, 3, 3), (1, 1000, 2)):
        expect_close(kernel(x), x.double().softmax(1), dtype)


@needs_compiler
def test_the_first_best_wins_and_nan_before_all(built: Any) -> None:
    kernel = built(bests())
    for dtype, x in draws(*((3, cols) for cols in COLS[1:]), (70, 5)):
        expect_close(kernel(x), (x.argmax(-1), x.amin(-1).double(), (x > 0).any(-1), x.argmin(0)), dtype)
    x = torch.zeros(5, 100)
    x[0, [50, 70]] = torch.nan
    x[1], x[2, [7, 80]], x[3] = -torch.inf, 9, torch.inf
    best, least, _, columns = kernel(x)
    assert torch.equal(best, x.argmax(-1))
    assert torch.equal(columns, x.argmin(0))
    torch.testing.assert_close(least, x.amin(-1), equal_nan=True)


@needs_compiler
def test_pointwise_kernels_agree_with_float64(built: Any) -> None:
    kernel = built(gelu())
    for dtype, x in draws(*((3, cols) for cols in COLS), (0, 37), (2, 5000)):
        bias = torch.linspace(-3, 3, x.shape[1])
        value = x.double() + bias
        expect_close(kernel(x, bias), torch.where(value > -1, torch.nn.functional.gelu(value), value.tanh()), dtype)


@needs_compiler
def test_the_exponential_is_as_exact_as_it_says_for_every_kind_of_float(built: Any) -> None:
    bits = torch.arange(-(2**31), 2**31, 4099).to(torch.int32)  # payloads of NaN, infinities and subnormal numbers among them
    x = torch.cat([bits.view(torch.float32), torch.tensor([88.72283, 88.7229, -86.89, -86.91, float("inf"), -float("inf"), 0.0, -0.0])])
    found, exact = built(exponential())(x), x.double().exp()
    assert torch.equal(found.isnan(), x.isnan())
    assert torch.equal(found.isinf(), exact.float().isinf())
    assert (found[x < -86.9] == 0).all()
    inside = (x >= -86.9) & exact.float().isfinite()
    assert ((found.double() - exact).abs() / exact)[inside].max() < 2e-7


@needs_compiler
def test_an_entry_may_be_called_as_one_of_the_printers_own_helpers(built: Any) -> None:
    named = gelu()
    named.entry = "select"
    x, bias = torch.randn(3, 37), torch.linspace(-3, 3, 37)
    assert torch.equal(built(named)(x, bias), built(gelu())(x, bias))


@needs_compiler
def test_reductions_of_everything_agree_with_float64(built: Any) -> None:
    kernel = built(whole())
    for dtype, x in draws((1, 1), (3, 37), (300, 1000)):
        expect_close(kernel(x), (x.double().mean(), x.double().abs().max()), dtype)
    assert kernel(torch.empty(0, 3).T.contiguous().T)[0].isnan()


@needs_compiler
def test_products_agree_with_float64(built: Any) -> None:
    kernel = built(linear())
    for rows, cols, depth in [(0, 3, 5), (1, 0, 5), (1, 1, 0), (5, 31, 16), (6, 32, 255), (7, 33, 257), (37, 100, 1)]:
        for dtype, x in draws((rows, depth)):
            weight, bias = torch.randn(cols, depth).to(dtype), torch.randn(cols).to(dtype)
            right = (x.double().clamp(min=-2) @ weight.double().T + bias.double()).relu()
            expect_close(kernel(x, weight, bias), right, dtype)


@needs_compiler
def test_running_sums_agree_with_float64(built: Any) -> None:
    kernel = built(sums())
    for dtype, x in draws(*((3, cols) for cols in COLS), (0, 37)):
        expect_close(kernel(x), x.double().cumsum(-1) - x.double(), dtype)
    x = torch.rand(2, 100_000)
    torch.testing.assert_close(kernel(x).double(), x.double().cumsum(-1) - x.double(), rtol=1e-6, atol=1e-6)


@needs_compiler
def test_scattered_sums_agree_with_float64(built: Any) -> None:
    kernel = built(scattered())
    for dtype, x in draws((0, 3), (5, 0), (5, 1), (9, 37)):
        ids = torch.arange(len(x)) * 7 % 5
        right = torch.zeros(6, x.shape[1], dtype=torch.float64).index_add(0, ids, x.double())
        expect_close(kernel(x, ids, 6), right, dtype)


def test_the_text_reads_like_the_formula() -> None:
    text = cpp.source(softmax())
    assert text.startswith("// softmax: softmax\n// idea: rows in parallel, 3 passes over each while it is in the cache\n")
    assert "// return x.softmax(-1)\ntemplate <class T>\nvoid compute_out(const T* x, T* out, int64_t rows, int64_t cols) {" in text
    assert "const float peak = max_of(cols, [&](int64_t col) INLINE { return widen(x_row[col]); });" in text
    assert "exponentials[col] = exp_of(widen(x_row[col]) - peak)" in text
    assert "narrow(exponentials[col] / total, out_row[col]);" in text
    assert "log_of" not in text


def test_a_librarys_operator_is_refused_by_name() -> None:
    x, out = buffer("x", ROWS), buffer("out", ROWS, role="output")
    step = Step("out", "call", (), FLOAT, operator="aten.sort", operands=(x,), results=(out,))
    with pytest.raises(Unprintable, match=r"aten\.sort: a library's operator, and C\+\+ has none"):
        cpp.source(program("ordered", [x], [out], Kernel("out", "call", (), [Pass((), [step])])))
