"""From plain JSON data to the values of a record. Each function takes its own fields and leaves what it does not know in ``extra``.

All raise ``RecordError`` naming the field, what was expected and what was there.
"""

from __future__ import annotations

from kevolve.report.fields import Fields, RecordError
from kevolve.report.values import (
    STATUSES,
    VERDICTS,
    Environment,
    Figure,
    Kernel,
    NodeRow,
    Properties,
    Result,
    SearchRow,
    Side,
    Speedup,
    Times,
    Usage,
    Verdict,
)


def times(fields: Fields) -> Times:
    """``Times``."""
    launched, replayed = fields.number("launched", optional=True), fields.number("replayed", optional=True)
    return Times(launched=launched, replayed=replayed, extra=fields.rest())


def speedup(fields: Fields) -> Speedup:
    """``Speedup``; low, estimate and high in this order."""
    low, estimate, high = (fields.number(name) for name in ("low", "estimate", "high"))
    if not 0 < low <= estimate <= high:
        raise RecordError(f"{fields.where}: expected 0 < low <= estimate <= high, got {low}, {estimate}, {high}")
    return Speedup(estimate=estimate, low=low, high=high, extra=fields.rest())


def kernel(fields: Fields | None) -> Kernel | None:
    """``Kernel``, where there is one."""
    if fields is None:
        return None
    return Kernel(path=fields.text("path"), hash=fields.text("hash", optional=True), extra=fields.rest())


def result(fields: Fields) -> Result:
    """``Result``."""
    return Result(
        spec=fields.text("spec"),
        case=fields.text("case"),
        target=fields.text("target"),
        language=fields.text("language", optional=True),
        status=fields.one_of("status", STATUSES),
        message=fields.text("message", optional=True) or "",
        time_us=times(fields.child("time_us")),
        baseline_us={name: times(child) for name, child in fields.named("baseline_us", optional=True)},
        floor_us=fields.number("floor_us", optional=True),
        speed_of_light=fields.number("speed_of_light", optional=True),
        speedup={name: speedup(child) for name, child in fields.named("speedup")},
        pairs=fields.integer("pairs", optional=True),
        method=fields.text("method", optional=True),
        kernel=kernel(fields.child("kernel", optional=True)),
        evaluations=fields.integer("evaluations", optional=True),
        extra=fields.rest(),
    )


def properties(fields: Fields) -> Properties:
    """``Properties``."""
    return Properties(
        spec=fields.text("spec"),
        target=fields.text("target"),
        language=fields.text("language", optional=True),
        status=fields.one_of("status", STATUSES),
        message=fields.text("message", optional=True) or "",
        draws=fields.integer("draws"),
        excluded=fields.integer("excluded"),
        kernel=kernel(fields.child("kernel", optional=True)),
        extra=fields.rest(),
    )


def environment(fields: Fields) -> Environment:
    """``Environment``."""
    return Environment(
        device=fields.text("device"),
        arch=fields.text("arch"),
        date=fields.text("date"),
        versions=fields.mapping("versions"),
        toolchain=fields.mapping("toolchain"),
        isolation=fields.mapping("isolation"),
        commit=fields.text("commit", optional=True),
        extra=fields.rest(),
    )


def verdict(fields: Fields) -> Verdict:
    """``Verdict``."""
    ratio = fields.child("ratio", optional=True)
    return Verdict(
        spec=fields.text("spec"),
        case=fields.text("case"),
        target=fields.text("target"),
        language=fields.text("language", optional=True),
        verdict=fields.one_of("verdict", VERDICTS),
        message=fields.text("message", optional=True) or "",
        old=side(fields.child("old", optional=True)),
        new=side(fields.child("new", optional=True)),
        ratio=speedup(ratio) if ratio is not None else None,
        figures=tuple(figure(child) for child in fields.children("figures", optional=True)),
        extra=fields.rest(),
    )


def side(fields: Fields | None) -> Side | None:
    """``Side``, where there is one."""
    if fields is None:
        return None
    return Side(
        path=fields.text("path"),
        hash=fields.text("hash"),
        revision=fields.text("revision", optional=True) or "",
        time_us=fields.number("time_us", optional=True),
        extra=fields.rest(),
    )


def figure(fields: Fields) -> Figure:
    """``Figure``; counts stay whole numbers."""
    old, new, allowed = (fields.quantity(name) for name in ("old", "new", "allowed"))
    least = fields.truth("least")
    return Figure(name=fields.text("name"), where=fields.text("where"), old=old, new=new, allowed=allowed, least=least, extra=fields.rest())


def search(fields: Fields) -> SearchRow:
    """``SearchRow``."""
    return SearchRow(
        spec=fields.text("spec"),
        target=fields.text("target"),
        best=fields.integer("best", optional=True),
        nodes=tuple(node(child) for child in fields.children("nodes")),
        extra=fields.rest(),
    )


def node(fields: Fields) -> NodeRow:
    """``NodeRow``."""
    spent = fields.child("usage", optional=True)
    return NodeRow(
        id=fields.integer("id"),
        step=fields.integer("step"),
        parents=fields.integers("parents"),
        operator=fields.text("operator", optional=True) or "",
        model=fields.text("model", optional=True) or "",
        idea=fields.text("idea", optional=True) or "",
        hypothesis=fields.text("hypothesis", optional=True) or "",
        status=fields.one_of("status", STATUSES),
        message=fields.text("message", optional=True) or "",
        fitness=fields.number("fitness"),
        seconds=fields.number("seconds"),
        source=fields.text("source", optional=True) or "",
        prompt=fields.text("prompt", optional=True) or "",
        usage=usage(spent) if spent is not None else Usage(),
        extra=fields.rest(),
    )


def usage(fields: Fields) -> Usage:
    """``Usage``."""
    counted = {name: fields.integer(name, optional=True) or 0 for name in ("input", "cached", "output")}
    return Usage(**counted, usd=fields.number("usd", optional=True), extra=fields.rest())
