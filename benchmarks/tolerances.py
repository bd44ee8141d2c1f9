"""The derived tolerance on operators whose errors are known: honest kernels in other orders of summation, and kernels that cheat.

Every run draws new inputs and takes the judge's own way: ``oracle.expect``, then ``compare`` with its second look. Honest kernels
take turns, ``--runs`` judged runs an operator and dtype; every cheat gets ``--cheats``. A draw that is excluded (the reference itself is
no guide there) is counted beside and does not count as a run.
Usage: ``python -m benchmarks.tolerances [--runs 1000] [--cheats 100] [--jobs 1] [--json PATH] [--out docs/tolerance.md]``;
``--out`` writes the tables between the document's markers; ``--json`` keeps what was counted, and what it holds is not counted again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.documents import command, put
from benchmarks.operators import OPERATORS, Operator, always_refused
from kevolve.evaluate.compare import compare
from kevolve.evaluate.oracle import expect
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Draw, Spec
from kevolve.targets.cpu import processor_name

_MOST_EXCLUDED = 20  # draws for one that is judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """One kernel (or all honest ones) on one operator and dtype. ``second``: runs that needed the second look."""

    operator: str
    dtype: str
    kernel: str
    honest: bool
    runs: int
    passed: int
    second: int
    excluded: int
    seconds: float
    failures: tuple[str, ...] = field(default=())

    @property
    def right(self) -> bool:
        """Whether every honest run passed, or no cheat did."""
        return self.passed == (self.runs if self.honest else 0)


def spec_of(operator: Operator) -> Spec:
    """The operator as a spec, for the oracle."""
    reference = operator.reference
    names = tuple(reference.__code__.co_varnames[: reference.__code__.co_argcount])
    found = Reference(module=reference.__module__, qualname=reference.__qualname__, file=Path(__file__), inputs=names)
    given: dict[str, Any] = dict(vary={}, choices={}, cases=(), hash="", describe=lambda: ())
    return Spec(name=operator.name, nodeid=f"benchmarks/operators.py::{operator.name}", folder=Path(), reference=found, **given)


def count(
    operator: Operator, dtype: str, kernels: Mapping[str, Callable[..., Any]], *, name: str, honest: bool, runs: int, seed: int
) -> Count:
    """``runs`` judged runs; ``kernels`` take turns."""
    spec, turns = spec_of(operator), list(kernels.items())
    began, judged, passed, second, excluded = time.perf_counter(), 0, 0, 0, 0
    failures: list[str] = []
    while judged < runs and excluded <= _MOST_EXCLUDED * runs:
        number = judged + excluded
        rng = torch.Generator().manual_seed((seed << 20) + number)
        inputs = operator.inputs(rng, getattr(torch, dtype))
        draw = Draw(values={}, seed=number)
        expected = expect(spec, draw, inputs)
        if expected.unreliable is not None:
            excluded += 1
            continue
        order, kernel = turns[judged % len(turns)]
        output = kernel(*inputs, rng)
        judged += 1
        first = compare(spec, expected, (output,), inputs)
        found = first if first.passed else compare(spec, expected, (output,), inputs, draw=draw)
        second += not first.passed and found.passed
        passed += found.passed
        if found.passed != honest and len(failures) < 3:
            failures.append(f"{order}, draw {number}: {found.message.splitlines()[0] if found.message else 'passed'}")
    return Count(
        operator=operator.name,
        dtype=dtype,
        kernel=name,
        honest=honest,
        runs=judged,
        passed=passed,
        second=second,
        excluded=excluded,
        seconds=round(time.perf_counter() - began, 1),
        failures=tuple(failures),
    )


def counts(name: str, dtype: str, runs: int, cheats: int, seed: int = 1) -> list[Count]:
    """The honest kernels together, then every cheat."""
    torch.set_num_threads(1)
    operator = OPERATORS[name]
    found = [count(operator, dtype, operator.honest, name=f"{len(operator.honest)} honest", honest=True, runs=runs, seed=seed)]
    for cheat, kernel in operator.cheats(dtype).items():
        runs = min(cheats, operator.most_cheats)
        found.append(count(operator, dtype, {cheat: kernel}, name=cheat, honest=False, runs=runs, seed=seed + 1))
    return found


def tables(rows: list[Count], made_by: str, where: str) -> str:
    """Markdown: honest kernels, cheats, and the exceptions in words."""
    honest = [
        {
            "operator": row.operator,
            "dtype": row.dtype,
            "kernels": row.kernel,
            "passed": f"{row.passed} of {row.runs}",
            "second look": row.second,
        }
        | {"excluded draws": row.excluded}
        for row in rows
        if row.honest
    ]
    cheats = [
        {"operator": row.operator, "declared": row.dtype, "kernel": row.kernel, "refused": f"{row.runs - row.passed} of {row.runs}"}
        | {"excluded draws": row.excluded}
        for row in rows
        if not row.honest
    ]
    lines = [f"Made by `{made_by}` on {where}.", "", "Honest kernels:", ""]
    lines += [tabulate(honest, headers="keys", tablefmt="github"), "", "Kernels that must be refused:", ""]
    lines += [tabulate(cheats, headers="keys", tablefmt="github")]
    return "\n".join(lines)


def kept(path: Path | None) -> list[Count]:
    """What an earlier run of the same file counted: a long run goes on where it was ended."""
    if path is None or not path.exists():
        return []
    return [Count(**{**row, "failures": tuple(row["failures"])}) for row in json.loads(path.read_text())["rows"]]


def main() -> int:
    """Count, print, write. Exit 1 where an honest kernel was refused, or one passed that computes in less than is declared."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--cheats", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=sorted(OPERATORS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--marks", default="tolerances", help="the document's markers between which the tables are written")
    arguments = parser.parse_args()
    wanted = [(name, dtype) for name in OPERATORS if name in arguments.only for dtype in OPERATORS[name].dtypes]
    rows = [row for row in kept(arguments.json) if (row.operator, row.dtype) in wanted]
    left = [one for one in wanted if one not in {(row.operator, row.dtype) for row in rows}]
    made_by = command("benchmarks.tolerances", sys.argv[1:])
    where = f"{processor_name()}, torch {torch.__version__}, {datetime.now(UTC).date()}"
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for future in as_completed([pool.submit(counts, name, dtype, arguments.runs, arguments.cheats) for name, dtype in left]):
            rows += future.result()
            for row in future.result():
                found = f"passed {row.passed}/{row.runs}", row.second, row.excluded, f"{row.seconds} s"
                print(row.operator, row.dtype, row.kernel, *found, *row.failures, sep=" | ", flush=True)
            if arguments.json:
                made = {"command": made_by, "where": where, "rows": [asdict(row) for row in rows]}
                arguments.json.write_text(json.dumps(made, indent=1) + "\n")
    rows.sort(key=lambda row: wanted.index((row.operator, row.dtype)))
    if arguments.out:
        put(arguments.out, arguments.marks, tables(rows, made_by, where))
    return int(any(not row.right for row in rows if row.honest or always_refused(row.dtype, row.kernel)))


if __name__ == "__main__":
    raise SystemExit(main())
