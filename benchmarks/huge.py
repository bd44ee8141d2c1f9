"""The draw beyond 2^31 elements: when a plan has one, what it takes, and whether it finds a position that is kept in 32 bits.

The reference is the largest of 64 columns, int8, and takes no wider copy of its input. Two kernels that differ in one place: the row's
first element as ``int64_t``, and with its 32nd bit lost. Only a tensor of more than 2^31 elements tells them apart.
Needs about 9 GiB. Usage: ``python -m benchmarks.huge [--json PATH]``
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from kevolve import Tensor, registry
from kevolve.evaluate.build import build
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.check import check
from kevolve.evaluate.client import Workers
from kevolve.evaluate.memory import available_bytes
from kevolve.evaluate.plan import make_plan
from kevolve.spec.domain import sizes
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Spec

COLS = 64
KERNEL = """
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>
#include <algorithm>
#include <cstdint>
namespace ffi = tvm::ffi;

ffi::Tensor row_max(ffi::TensorView x) {
  const int64_t rows = x.size(0), cols = x.size(1), pitch = x.stride(0), step = x.stride(1);
  int64_t shape[] = {rows};
  ffi::Tensor out = ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, ffi::ShapeView(shape, 1), x.dtype(), x.device());
  const int8_t* from = static_cast<const int8_t*>(x.data_ptr());
  int8_t* to = static_cast<int8_t*>(out.data_ptr());
#pragma omp parallel for
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t first = @FIRST@;
    int8_t largest = -128;
    for (int64_t col = 0; col < cols; ++col) largest = std::max(largest, from[first + col * step]);
    to[row] = largest;
  }
  return out;
}
TVM_FFI_DLL_EXPORT_TYPED_FUNC(row_max, row_max);
"""
FIRST = {"64 bits": "row * pitch", "31 bits": "row * pitch & 0x7fffffff"}


def largest_of_rows(x: torch.Tensor) -> torch.Tensor:
    """The reference."""
    return x.amax(-1)


def spec(most_rows: int = 1 << 27) -> Spec:
    """Rows of 64 columns, as many as 2^33 elements hold."""
    reference = Reference(module="benchmarks.huge", qualname="largest_of_rows", file=Path(__file__), inputs=("x",))
    return Spec(
        name="row_max",
        nodeid="benchmarks/huge.py::row_max",
        folder=Path(__file__).parent,
        describe=lambda rows: (Tensor(rows, COLS, dtype="int8"),),
        reference=reference,
        cases=(),
        vary={"rows": sizes(0, most_rows)},
        choices={},
        hash="",
    )


def judged(bits: str, workers: Workers, cache: Path) -> dict[str, Any]:
    """One kernel through a plan with the huge draw."""
    target, declared = registry.load("targets", "cpu"), spec()
    candidate = build(KERNEL.replace("@FIRST@", FIRST[bits]), "cpp", spec=declared, target=target, cache=cache, timeout_s=120)
    if not isinstance(candidate, Candidate):
        raise RuntimeError(candidate.message)
    began = time.perf_counter()
    plan = make_plan(declared, seed=1, memory_bytes=workers.limits.memory_bytes)
    planned = time.perf_counter()
    huge = [draw.values["rows"] * COLS for draw in plan.draws if draw.origin == "huge"]
    outcome = check(workers, declared, candidate, plan, target=target, deadline_s=300)
    row = {"position": bits, "elements": huge[0] if huge else None, "status": outcome.status.value}
    row |= {"draw": outcome.detail.get("draw"), "notes": "; ".join(plan.notes), "plan_s": round(planned - began, 1)}
    return row | {
        "check_s": round(time.perf_counter() - planned, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> int:
    """Both kernels; exit 1 unless the plan had the draw, passed the right one and found the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    free = available_bytes()
    with tempfile.TemporaryDirectory() as folder, Workers(sys_path=[path for path in sys.path if path], scratch=Path(folder)) as workers:
        rows = [judged(bits, workers, Path(folder) / "cache") for bits in FIRST]
    print(tabulate(rows, headers="keys"))
    if arguments.json:
        arguments.json.write_text(json.dumps({"free_gib": round(free / 2**30, 1), "rows": rows}, indent=2) + "\n")
    return int([row["status"] for row in rows] != ["PASSED", "INCORRECT_NUMERICAL"] or not all(row["elements"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
