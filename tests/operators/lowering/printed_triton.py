"""References printed as Triton, and run by its interpreter: ``python tests/operators/lowering/printed_triton.py`` under TRITON_INTERPRET=1.

A process of its own: Triton decides at import whether its own library is interpreted. Prints one line a reference.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from kevolve import Scalar, Tensor, sizes
from kevolve.evaluate.materialise import materialise
from kevolve.languages.triton import Triton
from kevolve.operators.lowering.lower import lower
from kevolve.operators.lowering.triton import printer as triton
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Draw, Spec

FLOATS = ("float32", "bfloat16", "float16")


def softmax(x: Any) -> Any:
    return x.float().softmax(-1).to(x.dtype)


def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    return functional.layer_norm(x.float(), x.shape[-1:], weight.float(), bias.float(), 1e-5).to(x.dtype)


def group_norm(x: Any, weight: Any, groups: int) -> Any:
    grouped = x.unflatten(1, (groups, -1))
    mean = grouped.mean((2, 3), keepdim=True)
    variance = (grouped - mean).square().mean((2, 3), keepdim=True)
    return ((grouped - mean) * torch.rsqrt(variance + 1e-5)).flatten(1, 2) * weight[:, None]


def column_sum(x: Any, scale: float) -> Any:
    scaled = x * scale
    return scaled, scaled.sum(0)


def squashed(x: Any, column: Any, row: Any) -> Any:
    return torch.tanh(x + row) * torch.log1p(column.abs()) + torch.expm1(x).round()


def both_means(x: Any) -> Any:
    return x.float().mean(), (x.float() > 0).any(), x.float().amax()


def best(x: Any) -> Any:
    value, place = x.max(1)
    return value, place, x.argmin(0)


def linear_relu(x: Any, weight: Any, bias: Any) -> Any:
    return functional.linear(x, weight, bias).relu()


def batched(x: Any, y: Any) -> Any:
    return torch.bmm(x, y.transpose(1, 2)) / math.sqrt(2)


def running(x: Any) -> Any:
    return x.float().flip(1).cumsum(1).flip(1)


def gathered(x: Any, table: Any) -> Any:
    return table[x] * math.sqrt(table.shape[1])


def segment_sums(x: Any, index: Any, count: int) -> Any:
    return torch.zeros(count, x.shape[1]).index_add(0, index, x.float())


def bucket_counts(x: Any, borders: Any) -> Any:
    index = torch.bucketize(x, borders, right=True)
    return torch.zeros(len(borders) + 1, dtype=torch.int64).index_add(0, index, torch.ones_like(index))


def unpacked(x: Any) -> Any:
    return torch.stack((x & 15, x >> 4), dim=-1).flatten(1), (x > 7).all(-1)


def moved_average(x: Any, mean: Any, step: int) -> None:
    mean.mul_(0.9).add_(x, alpha=0.1)
    x.sub_(mean / (1 - 0.9**step))


def library_product(x: Any, y: Any) -> Any:
    return (x @ y.T).relu()


def spec_of(reference: Callable[..., Any], describe: Callable[..., Any], /, *, dtypes: Sequence[str] = (), **more: Any) -> Spec:
    """A spec with sizes for what ``describe`` takes, and a dtype where that is among it."""
    names = [name for name in inspect.signature(describe).parameters if name != "dtype"]
    vary: dict[str, Any] = {name: sizes(0, 64) for name in names}
    values: dict[str, Any] = dict.fromkeys(names, 8)
    cases = [values | {"dtype": dtype} for dtype in dtypes] or [values]
    inputs = tuple(inspect.signature(reference).parameters)
    return Spec(
        name=reference.__name__,
        nodeid=f"t.py::test_{reference.__name__}",
        folder=Path(),
        describe=describe,
        reference=Reference(module=reference.__module__, qualname=reference.__name__, file=Path(__file__), inputs=inputs),
        cases=tuple(Case(id=str(number), values=each) for number, each in enumerate(cases)),
        vary=vary,
        choices={"dtype": tuple(dtypes)} if dtypes else {},
        hash=reference.__name__,
        **more,
    )


def _matrix(dtype: str, *shape: int) -> Any:
    return Tensor(*shape, dtype=dtype)


SPECS = [
    spec_of(softmax, lambda rows, cols, dtype: (_matrix(dtype, rows, cols),), dtypes=FLOATS),
    spec_of(layer_norm, lambda rows, cols, dtype: tuple(_matrix(dtype, *s) for s in ((rows, cols), (cols,), (cols,))), dtypes=FLOATS),
    spec_of(group_norm, lambda batch, each, width: (Tensor(batch, 2 * each, width), Tensor(2 * each), 2)),
    spec_of(column_sum, lambda rows, cols: (Tensor(rows, cols), Scalar(value=1.5, low=0.5, high=2.0))),
    spec_of(squashed, lambda rows, cols: (Tensor(rows, cols), Tensor(rows, 1), Tensor(cols))),
    spec_of(both_means, lambda rows, cols, dtype: (_matrix(dtype, rows, cols),), dtypes=FLOATS),
    spec_of(best, lambda rows, cols: (Tensor(rows, cols),)),
    spec_of(linear_relu, lambda m, k, n, dtype: tuple(_matrix(dtype, *s) for s in ((m, k), (n, k), (n,))), dtypes=FLOATS),
    spec_of(batched, lambda items, m, k: (Tensor(items, m, k), Tensor(items, 3, k))),
    spec_of(running, lambda rows, cols: (Tensor(rows, cols),)),
    spec_of(gathered, lambda count, rows, dim: (Tensor(count, dtype="int64", low=0, high=rows), Tensor(rows, dim))),
    spec_of(segment_sums, lambda rows, dim: (Tensor(rows, dim), Tensor(rows, dtype="int64", low=0, high=5), 5)),
    spec_of(bucket_counts, lambda count, borders: (Tensor(count), Tensor(borders, sorted=True))),
    spec_of(unpacked, lambda rows, cols: (Tensor(rows, cols, dtype="uint8"),)),
    spec_of(moved_average, lambda rows, cols: (Tensor(rows, cols), Tensor(rows, cols), 10), mutates=("x", "mean")),
    spec_of(library_product, lambda m, k, n: (Tensor(m, k), Tensor(n, k)), allow=("aten::mm",)),
]
BIGGER_THAN_NOTHING = {"softmax", "layer_norm", "group_norm", "both_means", "best", "gathered", "linear_relu", "batched"}  # of some axes


def printed(spec: Spec, *, small: bool = False) -> str:
    """The file's text. ``small``: with small tiles, so that every size crosses some boundary."""
    text = triton.source(lower(spec, library=True))
    values = {"ROW_TILE": 16, "COLUMN_TILE": 16, "TILE": 16, "LANES": 4, "PARTS": 4, "TILE_M": 16, "TILE_N": 16, "TILE_K": 16}
    for name, value in values.items() if small else ():
        text = re.sub(rf"^{name} = \d+ ", f"{name} = {value} ", text, flags=re.MULTILINE)
    return text


def loaded(text: str, folder: Path, entry: str) -> Callable[..., Any]:
    """The file's function."""
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()}.py"
    path.write_text(text)
    from kevolve.targets.cpu import CPU

    return Triton().load(path, entry=entry, target=CPU()).call


def draws(spec: Spec) -> Iterator[dict[str, Any]]:
    """Sizes of nothing, of one, of no round number; every dtype."""
    names, dtypes = list(spec.vary), spec.choices.get("dtype", ())
    rows = [(0, 3, 2), (1, 1, 1), (3, 37, 5), (37, 3, 4), (2, 70, 18)]
    for number, row in enumerate(rows):
        if spec.name in BIGGER_THAN_NOTHING and number == 0:
            row = (3, 1, 1)
        values = dict(zip(names, row, strict=False))
        yield {**values, "dtype": dtypes[number % len(dtypes)]} if dtypes else values


def disagreements(spec: Spec, folder: Path) -> Iterator[str]:
    """What differs, a line each: as drawn, with gaps in memory, with small tiles."""
    entry = spec.name
    usual, small = (loaded(printed(spec, small=small), folder, entry) for small in (False, True))
    reference = globals()[entry]
    for values in draws(spec):
        inputs = materialise(spec, Draw(values=values, seed=3))
        for label, call, gaps in (("", usual, False), (" with gaps", usual, True), (" in small tiles", small, False)):
            own = [_apart(value) if gaps and isinstance(value, torch.Tensor) else _copy(value) for value in inputs]
            expected = _results(spec, reference, [_copy(value) for value in inputs])
            for number, (one, other) in enumerate(zip(_results(spec, call, own), expected, strict=True)):
                tolerance = 4e-2 if one.dtype == torch.bfloat16 else 6e-3 if one.dtype == torch.float16 else 1e-5
                same = one.dtype == other.dtype and one.shape == other.shape
                if not same or not torch.allclose(one.double(), other.double(), rtol=tolerance, atol=tolerance, equal_nan=True):
                    yield f"{entry} {values}{label}: result {number}: {one.dtype} {tuple(one.shape)} differs"


def _results(spec: Spec, call: Callable[..., Any], inputs: list[Any]) -> list[torch.Tensor]:
    returned = call(*inputs)
    found = list(returned) if isinstance(returned, tuple) else [returned] if returned is not None else []
    return found + [inputs[spec.reference.inputs.index(name)] for name in spec.mutates]


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _apart(value: torch.Tensor) -> torch.Tensor:
    """The same with gaps between its elements, behind an offset."""
    wide = torch.zeros(*value.shape[:-1], 2 * value.shape[-1] + 1, dtype=value.dtype) if value.ndim else value
    wide[..., 1::2] = value
    return wide[..., 1::2]


def main() -> None:
    warnings.simplefilter("ignore")  # the interpreter computes with numpy, which warns of what is masked
    torch.manual_seed(7)
    with tempfile.TemporaryDirectory() as folder:
        for spec in SPECS:
            found = list(disagreements(spec, Path(folder)))
            print("\n".join([*found[:3], f"{spec.name}: {len(found)} disagreements"]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
