"""What the issue asks of each reference: a kernel that the project's own command accepted, or why there is none, and how fast."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.lowering.ahead import ARCHES, compiled_everywhere
from benchmarks.lowering.drafts import draft_apart
from benchmarks.lowering.project import HERE, make_project, optimise
from kevolve import registry
from kevolve.files import write_atomically
from kevolve.spec.spec import Spec
from kevolve.targets.cpu import processor_name, usable_cores

LIMIT_S = {"cpp": 900.0, "triton": 1200.0}
BASELINES = ("eager", "compile")
_SAID = 1500  # characters of a message that are kept


def results_file(language: str) -> Path:
    """Where a language's results are kept."""
    return HERE / f"results-{language}.json"


def read(language: str) -> dict[str, Any]:
    """The results so far."""
    file = results_file(language)
    return json.loads(file.read_text()) if file.exists() else {"language": language, "specs": {}}


def measure(
    specs: Mapping[str, Spec], language: str, folder: Path, *, again: bool = False, ahead: bool = True, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Measure ``specs`` and keep each result at once. One whose draft is the same text as before is left, unless ``again``."""
    results = read(language)
    project = make_project(folder.resolve())
    for name, spec in specs.items():
        before = results["specs"].get(name)
        drafted = drafts(spec, language)
        row = before if before and not again and before["draft"]["sha256"] == drafted["sha256"] else None
        if row is None:
            row = {"kernel": "", "cases": {}, **judged(project, spec, language)}
        row["draft"] = drafted
        if language == "triton" and ahead and row["kernel"] and "ahead" not in row:
            row["ahead"] = compiled_everywhere(spec, row["kernel"], project)
        results["specs"][name] = row
        results["machine"] = machine()
        write_atomically(results_file(language), json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        say(line(name, row))
    return results


def drafts(spec: Spec, language: str) -> dict[str, Any]:
    """The draft made apart: its seconds, the digest of its text without comments, the problem where there is none."""
    timed = draft_apart(HERE / Path(spec.nodeid.partition("::")[0]).name, spec.name, language)
    said = registry.load("languages", language).normalise(timed.draft.source) if timed.draft.source else timed.draft.problem
    digest = hashlib.sha256(said.encode()).hexdigest()
    found = {"seconds": round(timed.seconds, 3), "before_s": round(timed.before_s, 3), "sha256": digest}
    return found | ({"problem": timed.draft.problem, "trace": timed.draft.trace} if timed.draft.problem else {})


def judged(project: Path, spec: Spec, language: str) -> dict[str, Any]:
    """The status of the property item, the cases' speedups, and the kernel that was written."""
    run = optimise(project, spec, language, limit_s=LIMIT_S[language])
    record = run["record"]
    if record is None or not record["properties"]:
        return {"status": "NO RECORD", "message": f"{run['ended']}\n{run['said'][-_SAID:]}", "seconds": round(run["seconds"], 1)}
    (row,) = record["properties"]
    found: dict[str, Any] = {"status": row["status"], "message": row["message"][:_SAID], "seconds": round(run["seconds"], 1)}
    found |= {"kernel": run["kernel"], "draws": row.get("draws", 0), "excluded": row.get("excluded", 0)}
    if row["status"] == "NOT_MEASURED" and not run["kernel"]:
        found["status"] = "NO KERNEL"
    found["cases"] = {case["case"]: _case(case) for case in record["results"]}
    return found


def _case(row: Mapping[str, Any]) -> dict[str, Any]:
    speedup = {name: row["speedup"][name] for name in BASELINES if name in (row.get("speedup") or {})}
    time_us = (row.get("time_us") or {}).get("launched")
    return {"status": row["status"], "time_us": time_us, "speedup": speedup, "speed_of_light": row.get("speed_of_light")}


def machine() -> dict[str, str]:
    """What it was measured on."""
    return {
        "processor": processor_name(),
        "cores": str(usable_cores()),
        "torch": version("torch"),
        "triton": version("triton"),
        "python": platform.python_version(),
    }


def line(name: str, row: Mapping[str, Any]) -> str:
    """One spec in one line, with the first lines of its problem."""
    speeds = " ".join(f"{baseline} {mean:.2f}x" for baseline in BASELINES if (mean := mean_of([row], baseline)))
    ahead = f" ahead {sum('problem' not in found for found in row['ahead'].values())}/{len(ARCHES)}" if "ahead" in row else ""
    why = "" if row["status"] == "PASSED" else f"\n    {told(row)[:400]}"
    return f"{name:28s} {row['status']:20s} draft {row['draft']['seconds']:.2f} s {speeds}{ahead}{why}"


def told(row: Mapping[str, Any]) -> str:
    """Why a spec has no kernel: what lowering says, else what the judge says of the draft; whole, in one line."""
    problem = row["draft"].get("problem")
    return str(problem) if problem else " ".join(row["message"].splitlines())


def mean_of(rows: Iterable[Mapping[str, Any]], baseline: str) -> float | None:
    """The geometric mean speedup over all cases of ``rows``; None where nothing was timed."""
    found = [case["speedup"][baseline]["estimate"] for row in rows for case in row["cases"].values() if baseline in case["speedup"]]
    return math.exp(statistics.fmean(math.log(each) for each in found)) if found else None


def draft_seconds(rows: Iterable[Mapping[str, Any]]) -> list[float]:
    """Of tracing and printing, where something was printed."""
    return [row["draft"]["seconds"] for row in rows if not row["draft"].get("problem")]


def summary(results: Mapping[str, Any]) -> list[str]:
    """The issue's figures, a line each."""
    rows = results["specs"]
    passed = [name for name, row in rows.items() if row["status"] == "PASSED"]
    seconds = draft_seconds(rows.values())
    covered = [name for name, row in rows.items() if not row["draft"].get("problem")]
    lines = [f"{results['language']}: {len(passed)} of {len(rows)} references have a correct kernel; {len(covered)} are drafted."]
    if seconds:
        lines.append(f"First draft: {statistics.median(seconds):.2f} s in the median, {max(seconds):.2f} s at the most.")
    for baseline in BASELINES:
        mean = mean_of(rows.values(), baseline)
        count = sum(baseline in case["speedup"] for row in rows.values() for case in row["cases"].values())
        lines += [f"Geometric mean over {baseline}: {mean:.2f}x ({count} cases)."] if mean else []
    ahead = [row["ahead"] for row in rows.values() if "ahead" in row]
    for arch in ARCHES if ahead else ():
        right = sum("problem" not in found[arch] for found in ahead)
        kernels = sum(found[arch].get("kernels", 0) for found in ahead)
        lines.append(f"{arch}: {right} of {len(ahead)} drafts compile ahead of time ({kernels} kernels).")
    return lines
