"""From what a run found to the rows of its record."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.timing import Measurement
from kevolve.report.attention import MISSING
from kevolve.report.record import Kernel, Properties, Result, Speedup, Times
from kevolve.spec.spec import Case, Spec, Work
from kevolve.targets import Peaks


def kernel(path: Path | None, shown: Path | None, callable_path: str | None) -> Kernel | None:
    """The kernel judged: a file (``shown`` is how the record names it) or a callable's import path."""
    if callable_path is not None:
        return Kernel(path=callable_path)
    if path is None:
        return None
    return Kernel(path=str(shown or path), hash=hashlib.sha256(path.read_bytes()).hexdigest())


def result(
    spec: Spec, case: Case, *, target: str, language: str | None, measurement: Measurement, kernel: Kernel | None, evaluations: int | None
) -> Result:
    """One benchmark case's row."""
    outcome = measurement.outcome
    return Result(
        spec=spec.name,
        case=case.id,
        target=target,
        language=language,
        status=outcome.status.value,
        message=outcome.message,
        time_us=_times(measurement.time_us),
        baseline_us={name: _times(times) for name, times in measurement.baseline_us.items()},
        floor_us=measurement.floor_us,
        speed_of_light=measurement.speed_of_light,
        speedup={name: Speedup(estimate=s.estimate, low=s.low, high=s.high) for name, s in measurement.speedup.items()},
        pairs=measurement.pairs or None,
        method=measurement.method or None,
        kernel=kernel,
        evaluations=evaluations,
        extra={"test": spec.nodeid, "min_speedup": spec.least_speedup(case), "values": _plain(case.values)}
        | ({MISSING: True} if outcome.detail.get("kernel") == "missing" else {})
        | ({"unavailable": dict(measurement.unavailable)} if measurement.unavailable else {})
        | ({"work": work(measurement.work)} if measurement.work is not None else {})
        | {name: outcome.detail[name] for name in ("resources", "ahead") if name in outcome.detail},
    )


def work(least: Work) -> dict[str, float]:
    """The least bytes and operations of a case, for a roofline; operations only where the spec counts them: unknown is not none."""
    return {"bytes": least.bytes} | ({"flops": least.operations} if least.operations > 0 else {})


def peaks(measured: Peaks) -> dict[str, Any]:
    """What the device was measured to do, by the names of ``Peaks``; what was not measured is left out."""
    named = {name: getattr(measured, name) for name in ("bandwidth", "operations", "random_accesses", "empty_call_us")}
    return {name: _as_json(value) for name, value in named.items() if value}


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return [list(pair) for pair in value] if isinstance(value, tuple) else value


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """A case's values as JSON has them; others by their text."""
    return {name: value if _is_plain(value) else str(value) for name, value in values.items()}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))


def _times(times: Any) -> Times:
    return Times(launched=times.get("launched"), replayed=times.get("replayed"))


def properties(spec: Spec, target: str, language: str | None, outcome: Outcome, kernel: Kernel | None) -> Properties:
    """One property item's row."""
    return Properties(
        spec=spec.name,
        target=target,
        language=language,
        status=outcome.status.value,
        message=outcome.message,
        draws=int(outcome.detail.get("draws", 0)),
        excluded=int(outcome.detail.get("excluded", 0)),
        kernel=kernel,
        extra={"test": spec.nodeid} | ({MISSING: True} if outcome.detail.get("kernel") == "missing" else {}),
    )


def user_properties(row: Result) -> dict[str, Any]:
    """What JUnit and pytest-benchmark show of a row: what is known of it, times in microseconds."""
    shown = _judged(row) | {"pairs": row.pairs, "floor_us": row.floor_us, "min_speedup": row.extra.get("min_speedup")}
    shown |= {"time_us": row.time_us.launched, "time_us_replayed": row.time_us.replayed, "speed_of_light": row.speed_of_light}
    shown |= {f"time_us_of_{name}": times.launched for name, times in row.baseline_us.items()}
    for name, speedup in row.speedup.items():
        figures = {"": speedup.estimate, "_low": speedup.low, "_high": speedup.high}
        shown |= {f"speedup_over_{name}{bound}": round(figure, 4) for bound, figure in figures.items()}
    return {name: value for name, value in shown.items() if value is not None}


def plan_properties(row: Properties) -> dict[str, Any]:
    """What JUnit shows of a property item."""
    shown = _judged(row) | {"draws": row.draws, "excluded": row.excluded}
    return {name: value for name, value in shown.items() if value is not None}


def _judged(row: Result | Properties) -> dict[str, Any]:
    file = {"kernel": row.kernel.path, "kernel_sha256": row.kernel.hash} if row.kernel is not None else {}
    return {"status": row.status, "target": row.target, "language": row.language, **file}


def failed(outcome: Outcome) -> Measurement:
    """A case that did not come to timing."""
    return Measurement(outcome=outcome)


def unmeasured(reason: str) -> Measurement:
    """A correct case that was not timed, and why."""
    return Measurement(outcome=Outcome(status=Status.NOT_MEASURED, stage=Stage.PAIRED, message=reason))
