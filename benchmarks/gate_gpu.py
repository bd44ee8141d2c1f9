"""The gate on real kernels: unchanged ones of about 5, 38 and 130 us (false failures), and slowdowns planted in them (found or not).

``python benchmarks/gate_gpu.py --json benchmarks/gate/h200.json``; in parts: ``--only unchanged-38 planted-38``.
``--target cpu``: a smoke run.

A verdict is what ``pytest --kevolve-gate`` gives a case: the new text has a build of its own, both kernels run in fresh processes, a first
look that says "slower" is followed by another. The slowdown is calibrated first, as a share of the time in the form that decides: programs
that do a row again, or for the smallest kernel, whose programs all run at once, a chain of dependent arithmetic in each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]

SWIGLU = """
import torch
import triton
import triton.language as tl

VARIANT = {variant}
EXTRA = {extra}


@triton.jit
def gated(gate, up, out, count, extra, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    value = tl.load(gate + at, mask=inside, other=0.0).to(tl.float32)
    other = tl.load(up + at, mask=inside, other=0.0).to(tl.float32)
    chain = value
    for _ in range(extra):
        chain = chain * 0.999 + 0.001
    result = value / (1.0 + tl.exp(-value)) * other + tl.where(chain == 12345.0, 1.0, 0.0)
    tl.store(out + at, result.to(out.dtype.element_ty), mask=inside)


def swiglu(gate, up):
    gate, up = gate.contiguous(), up.contiguous()
    out = torch.empty_like(gate)
    if out.numel():
        gated[(triton.cdiv(out.numel(), 1024),)](gate, up, out, out.numel(), EXTRA, BLOCK=1024, num_warps=4)
    return out
"""

RMS_NORM = """
import torch
import triton
import triton.language as tl

VARIANT = {variant}
EXTRA = {extra}


@triton.jit
def normalise(x, weight, out, rows, cols, epsilon, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    row = (tl.program_id(0) % rows).to(tl.int64) * cols
    value = tl.load(x + row + at, mask=at < cols, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, axis=0) / cols + epsilon)
    factor = tl.load(weight + at, mask=at < cols, other=0.0).to(tl.float32)
    tl.store(out + row + at, (value * scale * factor).to(out.dtype.element_ty), mask=at < cols)


def rms_norm(x, weight):
    x, weight = x.contiguous(), weight.contiguous()
    out = torch.empty_like(x)
    rows, cols = x.shape
    if out.numel():
        normalise[(rows + EXTRA,)](x, weight, out, rows, cols, 1e-6, BLOCK=triton.next_power_of_2(cols), num_warps=8)
    return out
"""

RMS_NORM_CPP = r"""#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

#include <cmath>

namespace ffi = tvm::ffi;

[[maybe_unused]] static const int variant = {variant};

ffi::Tensor rms_norm(ffi::TensorView x, ffi::TensorView weight) {{
  const int64_t rows = x.size(0), cols = x.size(1), down = x.stride(0), along = x.stride(1);
  ffi::Tensor out = ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, x.shape(), x.dtype(), x.device());
  const float* in = static_cast<const float*>(x.data_ptr());
  const float* scale = static_cast<const float*>(weight.data_ptr());
  float* to = static_cast<float*>(out.data_ptr());
  for (int64_t again = 0; again < rows + (rows ? {extra} : 0); ++again) {{
    const int64_t r = again % rows;
    float sum = 0;
    for (int64_t c = 0; c < cols; ++c) sum += in[r * down + c * along] * in[r * down + c * along];
    const float factor = 1 / std::sqrt(sum / cols + 1e-6f);
    for (int64_t c = 0; c < cols; ++c) to[r * cols + c] = in[r * down + c * along] * factor * scale[c * weight.stride(0)];
  }}
  return out;
}}
TVM_FFI_DLL_EXPORT_TYPED_FUNC(rms_norm, rms_norm);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A kernel to gate. ``planted``: the slowdown to find, a share; ``guess``: extra work to begin its calibration with."""

    name: str
    operator: str
    text: str
    shape: tuple[int, int]
    dtype: str
    planted: float
    guess: int


GPU = (
    Subject(name="5", operator="swiglu", text=SWIGLU, shape=(32, 14336), dtype="bfloat16", planted=0.10, guess=65),
    Subject(name="38", operator="rms_norm", text=RMS_NORM, shape=(8192, 4096), dtype="bfloat16", planted=0.05, guess=410),
    Subject(name="130", operator="rms_norm", text=RMS_NORM, shape=(28672, 4096), dtype="bfloat16", planted=0.03, guess=860),
)
CPU = (Subject(name="cpu", operator="rms_norm", text=RMS_NORM_CPP, shape=(256, 1024), dtype="float32", planted=1.0, guess=256),)
_BUILDS = 8  # at a time
CALIBRATIONS, CLOSE = 6, 0.06  # looks at most; how near to the wanted slowdown is near enough, a share of it


def main() -> None:
    """Run the parts asked for, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cuda")
    parser.add_argument("--count", type=int, default=40, help="verdicts a part")
    parser.add_argument("--counts", nargs="*", default=[], metavar="PART=COUNT", help="other counts for parts")
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts: unchanged-5 planted-5 unchanged-38 …, or unchanged, planted")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no verdict after so long; what there is is written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results here, after every part")
    arguments = parser.parse_args()
    end, rows = time.monotonic() + arguments.seconds, []
    counts = {name: int(count) for name, _, count in (given.partition("=") for given in arguments.counts)}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments.target, Path(folder), arguments.seed)
        try:
            for subject, planted in _parts(arguments):
                count = counts.get(_name(subject, planted), arguments.count)
                rows.append(bench.part(subject, planted=planted, count=count, end=end))
                print(_line(rows[-1]), flush=True)
                _write(arguments.json, bench, rows)
        finally:
            bench.close()
    print(tabulate([_line(row) for row in rows], headers="keys", floatfmt=".4g"))


def _parts(arguments: argparse.Namespace) -> list[tuple[Subject, bool]]:
    subjects = CPU if arguments.target == "cpu" else GPU
    parts = [(subject, planted) for subject in subjects for planted in (False, True)]
    chosen = arguments.only or ["unchanged", "planted"]
    return [part for part in parts if {_name(*part), _name(*part).split("-")[0]} & {*chosen}]


def _name(subject: Subject, planted: bool) -> str:
    return f"{'planted' if planted else 'unchanged'}-{subject.name}"


def _write(path: Path | None, bench: Bench, rows: list[dict[str, Any]]) -> None:
    if path is not None:
        device = dict(bench.run.target.device())
        between = bench.run.figures.scatter
        scatter = None if between is None else asdict(between)
        path.write_text(
            json.dumps({"environment": device, "rules": asdict(bench.rules), "scatter": scatter, "results": rows}, indent=1) + "\n"
        )


class Bench:
    """One run's workers and caches, and its verdicts."""

    def __init__(self, target: str, folder: Path, seed: int) -> None:
        from kevolve.commands.measuring import Silent
        from kevolve.gate.verdict import Rules
        from kevolve.run import Run
        from kevolve.settings import Settings

        self.rules, self.rng = Rules(), random.Random(seed)
        self.run = Run(Settings(rootdir=folder, target=target, seed=seed, sys_path=(str(ROOT),)), Silent())
        self._variants = itertools.count()

    def close(self) -> None:
        """End the workers."""
        self.run.finish()

    def part(self, subject: Subject, *, planted: bool, count: int, end: float) -> dict[str, Any]:
        """``count`` verdicts on one kernel, unchanged or slowed down."""
        from kevolve.evaluate.timing import timed_pool

        spec, case = _spec(subject, self.run.settings.rootdir)
        with timed_pool(spec, case, seed=self.rng.randrange(1 << 62)) as pool:
            compared = _compared(self, subject, spec, case, pool)
            extra, tried = (
                self._calibrated(subject, lambda extra: compared(self.candidate(subject, spec, case, extra))) if planted else (0, [])
            )
            with ThreadPoolExecutor(_BUILDS) as threads:  # all texts before the first verdict: nothing else runs beside one
                texts = list(threads.map(lambda _: self.candidate(subject, spec, case, extra), range(count)))
            found = [self._verdict(compared(new)) for new in texts if time.monotonic() < end]
        row = {"part": _name(subject, planted), "operator": subject.operator, "shape": subject.shape}
        return row | {"wanted": subject.planted if planted else 0.0, "extra": extra, "calibration": tried, "verdicts": found}

    def candidate(self, subject: Subject, spec: Any, case: Any, extra: int) -> Any:
        """A text that was never built before, right on the case."""
        from kevolve.evaluate.outcome import Outcome
        from kevolve.evaluate.plan import of_draws
        from kevolve.spec.spec import Draw

        variant = next(self._variants)
        source = subject.text.format(variant=variant, extra=extra)
        built = self.run.build(spec, source, "cpp" if self.run.target.name == "cpu" else "triton")
        if isinstance(built, Outcome):
            raise SystemExit(f"{subject.name}: {built.message}")
        outcome = self.run.check(spec, built, of_draws(spec, [Draw(values=case.values, seed=variant)]))
        if not outcome.passed:
            raise SystemExit(f"{subject.name}: {outcome.message}")
        return built

    def _calibrated(self, subject: Subject, compared: Callable[[int], Any]) -> tuple[int, list[dict[str, float]]]:
        """The extra work that slows the kernel down as wanted, and what was tried: by the secant through the two nearest.

        Where none comes near enough the looks scatter by more than that: a line through all of them says how much work it takes.
        """
        tried: list[tuple[int, float]] = [(0, 0.0)]
        extra = subject.guess
        for _ in range(CALIBRATIONS):
            look = compared(extra).look(self.rules, self.rng)
            tried.append((extra, 1 / look.ratios[look.form].estimate - 1))
            best = min(tried[1:], key=lambda each: abs(each[1] - subject.planted))
            if abs(best[1] - subject.planted) < CLOSE * subject.planted:
                return best[0], _tried(tried)
            below = max((each for each in tried if each[1] < subject.planted), key=lambda each: each[1])
            above = min((each for each in tried if each[1] >= subject.planted), key=lambda each: each[1], default=None)
            extra = _next(below, above, subject.planted)
        slope = sum(work * slowdown for work, slowdown in tried) / sum(work**2 for work, _ in tried)
        return max(1, round(subject.planted / slope)) if slope > 0 else best[0], _tried(tried)

    def _verdict(self, comparison: Any) -> dict[str, Any]:
        from kevolve.gate.paired import Untimed

        start = time.perf_counter()
        try:
            judged = comparison.judge(self.rules, self.rng.randrange(1 << 62))
        except Untimed as error:
            return {"verdict": "untimed", "message": str(error), "seconds": time.perf_counter() - start}
        look, first = judged.look, judged.first
        return {
            "verdict": judged.finding.value,
            "form": judged.form,
            "ratio": asdict(judged.ratio),
            "ratios": {form: asdict(ratio) for form, ratio in look.ratios.items()},
            "log_ratios": {form: [*pairs] for form, pairs in look.log_ratios.items()},
            "first": {form: asdict(ratio) for form, ratio in first.ratios.items()} if first else None,
            "first_log_ratios": {form: [*pairs] for form, pairs in first.log_ratios.items()} if first else None,
            "old_us": dict(look.old_us),
            "new_us": dict(look.new_us),
            "pairs": look.pairs,
            "reason": judged.reason,
            "seconds": time.perf_counter() - start,
        }


def _tried(looks: list[tuple[int, float]]) -> list[dict[str, float]]:
    return [{"extra": work, "slowdown": slowdown} for work, slowdown in looks[1:]]


def _next(below: tuple[int, float], above: tuple[int, float] | None, wanted: float) -> int:
    if above is None:  # twice as much, or what a straight line says
        return max(2 * below[0], 1) if below[1] <= 0 else min(4 * below[0], round(below[0] * wanted / below[1]) + 1)
    share = (wanted - below[1]) / (above[1] - below[1])
    return round(below[0] + share * (above[0] - below[0]))


def _compared(bench: Bench, subject: Subject, spec: Any, case: Any, pool: Any) -> Callable[[Any], Any]:
    """The comparison of one old kernel with ever new ones."""
    from kevolve.gate.paired import Comparison

    run, old = bench.run, bench.candidate(subject, spec, case, 0)
    fields = {
        "workers": run.workers,
        "spec": spec,
        "case": case,
        "old": old,
        "target": run.target,
        "pool": pool,
        "scatter": run.figures.scatter,
    }
    return lambda new: Comparison(new=new, believed=True, **fields)


def _spec(subject: Subject, folder: Path) -> tuple[Any, Any]:
    from kevolve.spec.inputs import Tensor
    from kevolve.spec.reference import Reference
    from kevolve.spec.spec import Case, Spec

    rows, cols = subject.shape
    whole, other = Tensor(rows, cols, dtype=subject.dtype), Tensor(cols, dtype=subject.dtype)
    described = (whole, whole) if subject.operator == "swiglu" else (whole, other)
    module, inputs = {"swiglu": ("activations", ("gate", "up")), "rms_norm": ("norms", ("x", "weight"))}[subject.operator]
    path = ROOT / "reference_ops" / f"{module}.py"
    spec = Spec(
        name=subject.operator,
        nodeid=f"benchmarks/gate_gpu.py::test_{subject.operator}",
        folder=folder,
        describe=lambda **_: described,
        reference=Reference(module=f"reference_ops.{module}", qualname=subject.operator, file=path, inputs=inputs),
        cases=(),
        vary={},
        choices={},
        hash=f"gate-{subject.name}",
    )
    return spec, Case(id=f"{rows}-{cols}-{subject.dtype}", values={"rows": rows, "cols": cols})


def _line(row: dict[str, Any]) -> dict[str, Any]:
    verdicts = row["verdicts"]
    counts = {name: sum(one["verdict"] == name for one in verdicts) for name in ("slower", "same", "faster", "unmeasurable", "untimed")}
    timed = [one for one in verdicts if "ratio" in one]
    line: dict[str, Any] = {"part": row["part"], "verdicts": len(verdicts), **counts}
    if not timed:
        return line | {"why": verdicts[0]["message"][:200] if verdicts else "no time"}
    ratios = [one["ratio"] for one in timed]
    return line | {
        "launched us": median(one["old_us"].get("launched", 0.0) for one in timed),
        "replayed us": median(one["old_us"].get("replayed", 0.0) for one in timed),
        "planted %": 100 * (1 / median(ratio["estimate"] for ratio in ratios) - 1) if row["wanted"] else 0.0,
        "half width %": 100 * median((ratio["high"] - ratio["low"]) / 2 for ratio in ratios),
        "worst bound": max(ratio["high"] for ratio in ratios) if row["wanted"] else min(ratio["high"] for ratio in ratios),
        "second looks": sum(one["first"] is not None for one in timed),
        "s a verdict": median(one["seconds"] for one in timed),
    }


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
