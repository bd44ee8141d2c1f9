"""Two kernels of a spec timed against each other on its cases, as the gate times old and new.

``python -m benchmarks.versus --target cuda --before DIR --after DIR``: for every spec of the suites that has a kernel of the same
file name in both folders (``DIR/<spec>/cuda.py``), each is built, held against the reference at each case, and both are timed in process
pairs, seven or fourteen of them. Prints the after's speedup over the before, a line a case, and the geometric mean of a spec's cases.
Neither is checked on the property plan here: that is an ordinary run's work.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.specs import collect
from kevolve.evaluate.statistics import geometric_mean

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = {".py": "triton", ".cpp": "cpp"}


def main() -> None:
    """Time what both folders have, print the table, write the JSON after every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--after", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[], metavar="SPEC")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no case after so long")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments.target, Path(folder))
        try:
            for name, before, after in _both(arguments.before, arguments.after, arguments.only):
                for row in bench.rows(name, before, after, end):
                    rows.append(row)
                    print(json.dumps({key: row[key] for key in ("spec", "case", "verdict", "speedup")}), flush=True)
                    if arguments.json is not None:
                        device = dict(bench.run.target.device())
                        arguments.json.write_text(json.dumps({"environment": device, "results": rows}, indent=1) + "\n")
        finally:
            bench.run.finish()
    print(tabulate(_table(rows), headers="keys", floatfmt=".4g"))


def _both(before: Path, after: Path, only: list[str]) -> Iterator[tuple[str, Path, Path]]:
    for path in sorted(after.glob("*/*")):
        other = before / path.relative_to(after)
        if path.suffix in LANGUAGES and other.is_file() and (not only or path.parent.name in only):
            yield path.parent.name, other, path


class Bench:
    """One run's workers and caches. ``seed`` is drawn anew for every run."""

    def __init__(self, target: str, folder: Path) -> None:
        import secrets

        from kevolve.commands.measuring import Silent
        from kevolve.gate.verdict import Rules
        from kevolve.run import Run
        from kevolve.settings import Settings

        self.rules, self.seed, self.specs = Rules(), secrets.randbits(62), collect(target)
        self.run = Run(Settings(rootdir=folder, target=target, seed=self.seed, sys_path=(str(ROOT),)), Silent())

    def rows(self, name: str, before: Path, after: Path, end: float) -> Iterator[dict[str, Any]]:
        """A row a case of the spec."""
        from kevolve.evaluate.outcome import Outcome

        spec = self.specs[name]
        built = [self.run.build(spec, path.read_text(), LANGUAGES[path.suffix]) for path in (before, after)]
        for case in spec.cases:
            row = {"spec": name, "case": case.id, "before": str(before), "after": str(after)}
            failed = next((each for each in built if isinstance(each, Outcome)), None)
            if failed is not None:
                yield row | {"verdict": failed.status.value, "speedup": None, "message": failed.message}
            elif time.monotonic() < end:
                yield row | self._case(spec, case, *built)

    def _case(self, spec: Any, case: Any, before: Any, after: Any) -> dict[str, Any]:
        from kevolve.evaluate.plan import of_draws
        from kevolve.evaluate.timing import timed_pool
        from kevolve.gate.paired import Comparison, Untimed
        from kevolve.spec.spec import Draw

        for candidate in (before, after):
            outcome = self.run.check(spec, candidate, of_draws(spec, [Draw(values=case.values, seed=self.seed)]))
            if not outcome.passed:
                return {"verdict": outcome.status.value, "speedup": None, "message": outcome.message}
        run = self.run
        with timed_pool(spec, case, seed=self.seed) as pool:
            sides = {"workers": run.workers, "spec": spec, "case": case, "old": before, "new": after}
            try:
                judged = Comparison(**sides, target=run.target, pool=pool, scatter=run.scatter).judge(self.rules, self.seed)
            except Untimed as error:
                return {"verdict": "untimed", "speedup": None, "message": str(error)}
        look = judged.look
        return {
            "verdict": judged.finding.value,
            "form": judged.form,
            "speedup": asdict(judged.ratio),
            "before_us": look.old_us[judged.form],
            "after_us": look.new_us[judged.form],
            "pairs": look.pairs,
            "log_ratios": {form: [*pairs] for form, pairs in look.log_ratios.items()},
            "method": look.method,
        }


def _table(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    by_spec: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_spec.setdefault(row["spec"], []).append(row)
    for spec, found in by_spec.items():
        for row in found:
            speedup = row["speedup"]
            said = f"{speedup['estimate']:.3f}x [{speedup['low']:.3f}, {speedup['high']:.3f}]" if speedup else row["message"][:120]
            yield {"spec": spec, "case": row["case"], "before us": row.get("before_us"), "after us": row.get("after_us"), "speedup": said}
        timed = [row["speedup"]["estimate"] for row in found if row["speedup"]]
        if len(timed) > 1:
            yield {"spec": spec, "case": f"geometric mean of {len(timed)}", "speedup": f"{geometric_mean(timed):.3f}x"}


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
