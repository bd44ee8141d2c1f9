"""Outcomes and measurements as data that travels; coming back, every field is checked before it is believed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.statistics import Interval
from kevolve.report.fields import Fields, RecordError

if TYPE_CHECKING:
    from kevolve.evaluate.timing import Measurement

MOST_TEXT = 1 << 16  # characters of a message
MOST_DETAIL = 1 << 20  # of a detail, as JSON
MOST_FIGURES = 1 << 16  # of one list


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """Plain data; what JSON has no word for (a NaN that a kernel returned) is written as text, and what is too large left out."""
    detail = {str(name): _plain(value) for name, value in outcome.detail.items()}
    while len(json.dumps(detail)) > MOST_DETAIL:
        del detail[max(detail, key=lambda name: len(json.dumps(detail[name])))]
    return {"status": outcome.status.value, "stage": outcome.stage.value, "message": outcome.message[:MOST_TEXT], "detail": detail}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


def outcome(fields: Fields) -> Outcome:
    """Raises ``RecordError``."""
    detail = fields.mapping("detail")
    if len(json.dumps(detail)) > MOST_DETAIL:
        raise RecordError(f"{fields.where}.detail: expected at most {MOST_DETAIL} characters")
    return Outcome(
        status=Status(fields.one_of("status", [status.value for status in Status])),
        stage=Stage(fields.one_of("stage", [stage.value for stage in Stage])),
        message=text(fields, "message"),
        detail=detail,
    )


def text(fields: Fields, name: str) -> str:
    """A text that is not endless, empty where it is absent. Raises ``RecordError``."""
    found = fields.text(name, optional=True) or ""
    if len(found) > MOST_TEXT:
        raise RecordError(f"{fields.where}.{name}: expected at most {MOST_TEXT} characters, got {len(found)}")
    return found


def measurement_to_json(measured: Measurement) -> dict[str, Any]:
    """Plain data."""
    return {
        "outcome": outcome_to_json(measured.outcome),
        "time_us": dict(measured.time_us),
        "baseline_us": {side: dict(times) for side, times in measured.baseline_us.items()},
        "speedup": {side: {"estimate": one.estimate, "low": one.low, "high": one.high} for side, one in measured.speedup.items()},
        "log_ratios": {side: list(ratios) for side, ratios in measured.log_ratios.items()},
        "unavailable": dict(measured.unavailable),
        "floor_us": measured.floor_us,
        "speed_of_light": measured.speed_of_light,
        "pairs": measured.pairs,
        "verified": measured.verified,
        "method": measured.method,
        "samples_s": list(measured.samples_s),
    }


def measurement(fields: Fields) -> Measurement:
    """Raises ``RecordError``: also for a kernel that passed without a figure."""
    from kevolve.evaluate.timing import Measurement  # only here: it loads torch, and most rounds are without

    where = fields.where
    found = Measurement(
        outcome=outcome(fields.child("outcome")),
        time_us=_times(fields.child("time_us")),
        baseline_us={side: _times(child) for side, child in fields.named("baseline_us")},
        speedup={side: _interval(child) for side, child in fields.named("speedup")},
        log_ratios={side: _numbers(ratios, f"{where}.log_ratios.{side}") for side, ratios in fields.mapping("log_ratios").items()},
        unavailable={side: str(why)[:MOST_TEXT] for side, why in fields.mapping("unavailable").items()},
        floor_us=fields.number("floor_us", optional=True),
        speed_of_light=fields.number("speed_of_light", optional=True),
        pairs=fields.integer("pairs"),
        verified=fields.integer("verified"),
        method=text(fields, "method"),
        samples_s=_numbers(fields.rest().get("samples_s", []), f"{where}.samples_s"),
    )
    if found.outcome.status in (Status.PASSED, Status.TOO_SLOW) and not (found.speedup and found.pairs):
        raise RecordError(f"{where}: expected a speedup and pairs for a kernel that was timed, got {len(found.speedup)}, {found.pairs}")
    return found


def _times(fields: Fields) -> Mapping[str, float | None]:
    return {form: fields.number(form, optional=True) for form in ("launched", "replayed")}


def _interval(fields: Fields) -> Interval:
    low, estimate, high = (fields.number(name) for name in ("low", "estimate", "high"))
    if not 0 < low <= estimate <= high:
        raise RecordError(f"{fields.where}: expected 0 < low <= estimate <= high, got {low}, {estimate}, {high}")
    return Interval(estimate=estimate, low=low, high=high)


def _numbers(given: Any, where: str) -> tuple[float, ...]:
    if not isinstance(given, list) or len(given) > MOST_FIGURES:
        raise RecordError(f"{where}: expected a list of at most {MOST_FIGURES} numbers")
    if not all(type(value) in (int, float) and math.isfinite(value) for value in given):
        raise RecordError(f"{where}: expected finite numbers")
    return tuple(float(value) for value in given)
