"""What the gate says of a kernel: the lines of a failed test, and the reasons of the others. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kevolve.evaluate.statistics import CONFIDENCE
from kevolve.gate.verdict import Finding, Judgement, Rules
from kevolve.report import text
from kevolve.report.record import Figure, Side

NO_FIGURES = "static figures are not available"
_SHOWN = 3  # figures named as a cause
_LISTED = 8  # figures beyond their allowance that a message lists


def timed(where: str, judged: Judgement, rules: Rules, *, old: Side, new: Side, cause: str, again: str, history: str = "") -> str:
    """A case that was timed: the whole message of a slowdown, one line of anything else. ``history``: what a stored time says."""
    ratio, look = judged.ratio, judged.look
    interval = f"{ratio.estimate:.3f}x [{ratio.low:.3f}, {ratio.high:.3f}]"
    times = f"old {text.time(look.old_us[judged.form])}, new {text.time(look.new_us[judged.form])} ({judged.form})"
    if judged.finding is not Finding.SLOWER:
        reason = f"; {judged.reason}" if judged.reason else ""
        return f"{where}: {judged.finding.value} against {old.revision[:9]}: {times}, {interval}{reason}"
    first = judged.first.ratios[judged.form] if judged.first else ratio
    lines = [
        f"{where} is slower than at {old.revision[:9]}: {times}",
        f"  kernel   {_paths(old, new)}",
        f"  speedup  {interval}, {CONFIDENCE:.0%} interval over {look.pairs} pairs; at least {rules.least:.3f} passes",
        f"  twice    {first.estimate:.3f}x [{first.low:.3f}, {first.high:.3f}] in the processes before",
        f"  cause    {cause}",
        *([f"  stored   {history}"] if history else []),
        f"  again    {again}",
    ]
    return "\n".join(lines)


def wrong(where: str, said: str, *, old: Side | None, new: Side) -> str:
    """A changed kernel that is not right."""
    what = "is new" if old is None else f"changed since {old.revision[:9]}"
    return f"{where} is wrong; {new.path} {what}:\n{said}"


def grown(where: str, beyond: Sequence[Figure], *, old: Side, new: Side, reason: str) -> str:
    """A kernel whose static figures grew beyond what is allowed, where nothing can be timed (``reason``)."""
    lines = [
        f"{where} grew since {old.revision[:9]} beyond its allowance, though not timed here ({reason})",
        f"  kernel   {_paths(old, new)}",
    ]
    for number, figure in enumerate(beyond[:_LISTED]):
        lines.append(f"  {'grown' if number == 0 else '':<7}  {moved(figure)}, {figure.bound} {_number(figure.allowed)}")
    if len(beyond) > _LISTED:
        lines.append(f"  {'':<7}  and {len(beyond) - _LISTED} more; the record's gate has them all (--kevolve-report)")
    return "\n".join(lines)


def cause(figures: Sequence[Figure]) -> str:
    """The static figures that moved most, the largest first."""
    changed = sorted((figure for figure in figures if figure.new != figure.old), key=_change, reverse=True)
    return "; ".join(moved(figure) for figure in changed[:_SHOWN]) or "no static figure moved"


def moved(figure: Figure) -> str:
    """``registers 32 -> 64 (sm90 rms_norm_kernel)``."""
    return f"{figure.name} {_number(figure.old)} -> {_number(figure.new)} ({figure.where})"


def _change(figure: Figure) -> float:
    """How far a figure moved, as a ratio's logarithm; from or to nothing is the furthest."""
    if figure.old <= 0 or figure.new <= 0:
        return math.inf
    return abs(math.log(figure.new / figure.old))


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or value >= 1000 else f"{value:,.3g}"


def _paths(old: Side, new: Side) -> str:
    return new.path if old.path == new.path else f"{new.path}, before {old.path}"
