"""Results as traces of flashinfer-bench: definition, workload, solution, evaluation. ``docs/reports.md`` has the mapping.

Written for its data model (``flashinfer_bench/data/trace.py`` and ``workload.py``): PASSED carries correctness and performance,
INCORRECT_NUMERICAL correctness alone, the other errors neither, and a trace without an evaluation is a workload. What a record does not
know is left out, or NaN where their reader would otherwise take it for zero.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from kevolve.report import text
from kevolve.report.merge import environment_of
from kevolve.report.record import Environment, Record, Result, Times, flat

STATUSES = ("PASSED", "INCORRECT_SHAPE", "INCORRECT_NUMERICAL", "INCORRECT_DTYPE", "RUNTIME_ERROR", "COMPILE_ERROR", "TIMEOUT")
_SAME = {"TOO_SLOW": "PASSED"}  # correct and timed: theirs has no threshold


def lines(record: Record) -> Iterator[str]:
    """One trace a result as a line of JSON, without its end."""
    for row in record.results:
        yield json.dumps(trace(row, environment_of(record, row)), ensure_ascii=False, allow_nan=False)


def trace(row: Result, environment: Environment) -> dict[str, Any]:
    """One result as a trace; ``kevolve`` holds what theirs has no words for."""
    evaluation = _evaluation(row, environment)
    return {
        "definition": row.spec,
        "workload": workload(row),
        "solution": _solution(row) if evaluation else None,
        "evaluation": evaluation,
        "kevolve": flat(row),
    }


def workload(row: Result) -> dict[str, Any]:
    """The case: whole numbers are axes, other numbers scalars. Contents are drawn, so inputs that are tensors have no entry."""
    values = row.extra.get("values", {})
    axes = {name: value for name, value in values.items() if _whole(value) and value >= 0}
    scalars = {name: value for name, value in values.items() if name not in axes and _scalar(value)}
    return {
        "axes": axes,
        "inputs": {name: {"type": "scalar", "value": value} for name, value in scalars.items()},
        "uuid": str(uuid5(NAMESPACE_URL, f"kevolve:{row.extra.get('test', row.spec)}:{row.case}")),
    }


def _evaluation(row: Result, environment: Environment) -> dict[str, Any] | None:
    """None where the status has no word of theirs (not measured, refused, suspect) or a pass was not timed."""
    status = _SAME.get(row.status, row.status)
    performance = _performance(row) if status == "PASSED" else None
    if status not in STATUSES or (status == "PASSED" and performance is None):
        return None
    versions = {name: version for name, version in environment.versions.items() if isinstance(version, str)}
    return {
        "status": status,
        "environment": {"hardware": environment.device or "unknown", "libs": versions},
        "timestamp": environment.date or "unknown",
        "log": row.message,
        "correctness": _correctness(row) if status in ("PASSED", "INCORRECT_NUMERICAL") else None,
        "performance": performance,
    }


def _correctness(row: Result) -> dict[str, Any]:
    """The greatest errors are not in a record: NaN, as their model writes it."""
    checked = "compared with a float64 oracle within a tolerance that the reference's own error sets"
    return {"max_relative_error": "NaN", "max_absolute_error": "NaN", "extra": {"method": checked}}


def _performance(row: Result) -> dict[str, Any] | None:
    """Times as launched, in milliseconds, against the first baseline."""
    time_us = text.best_time(row.time_us)
    if time_us is None:
        return None
    found = {"latency_ms": time_us / 1e3}
    for name, speedup in list(row.speedup.items())[:1]:
        reference_us = text.best_time(row.baseline_us.get(name, Times()))
        found |= {"reference_latency_ms": reference_us / 1e3} if reference_us is not None else {}
        found["speedup_factor"] = speedup.estimate
    return found


def _solution(row: Result) -> str | None:
    """The kernel's file or callable, with the beginning of its hash: one name a text."""
    if row.kernel is None:
        return None
    return f"{row.kernel.path}@{row.kernel.hash[:12]}" if row.kernel.hash else row.kernel.path


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _scalar(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, int | float) and math.isfinite(value))
