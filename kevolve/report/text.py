"""How figures are written for people: times, ratios, shortened names. Pure functions."""

from __future__ import annotations

import textwrap
from pathlib import Path

from kevolve.report.record import Speedup, Times


def time(us: float | None) -> str:
    """Three significant digits in a readable unit: ``18.2 us``, ``1.84 ms``; empty for None."""
    if us is None:
        return ""
    for unit, size in (("us", 1.0), ("ms", 1e3)):
        if us < 999.5 * size:
            return f"{digits(us / size)} {unit}"
    return f"{digits(us / 1e6)} s"


def digits(value: float) -> str:
    """Three significant digits without an exponent: ``1.84``, ``18.4``, ``184``."""
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def ratio(speedup: Speedup | None, *, interval: bool = True) -> str:
    """``2.31x [2.25, 2.38]``, or ``2.31x`` alone; empty for None."""
    if speedup is None:
        return ""
    bounds = f" [{digits(speedup.low)}, {digits(speedup.high)}]" if interval else ""
    return f"{digits(speedup.estimate)}x{bounds}"


def best_time(times: Times) -> float | None:
    """The time a reader compares: launched, or replayed where only that was measured."""
    return times.launched if times.launched is not None else times.replayed


def forms(times: Times | None) -> str:
    """Microseconds ``launched / replayed``, launched alone where that is all there is; empty for None."""
    found = [digits(us) for us in (times.launched, times.replayed) if us is not None] if times is not None else []
    return " / ".join(found)


def percent(fraction: float | None) -> str:
    """``61%``, ``<1%``; empty for None."""
    if fraction is None:
        return ""
    return "<1%" if 0 < fraction < 0.005 else f"{100 * fraction:.0f}%"


def baseline(name: str) -> str:
    """How a baseline is called: ``compile`` is ``torch.compile``."""
    return {"compile": "torch.compile"}.get(name, name)


def shorten(text: str, width: int) -> str:
    """``text`` cut in its middle to ``width`` characters: beginnings and ends tell names apart."""
    if len(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    tail = (width - 1) // 2
    return text[: width - 1 - tail] + "…" + (text[-tail:] if tail else "")


def wrapped(line: str, width: int) -> str:
    """``line`` in lines of at most ``width`` where words allow it, all but the first indented; paths stay whole."""
    return textwrap.fill(line, width=width, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)


def duration(seconds: float | None) -> str:
    """``41 s``, ``3 min 20 s``, ``1 h 04 min``; ``no limit`` for None."""
    if seconds is None:
        return "no limit"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def plural(count: int, noun: str) -> str:
    """``1 case``, ``2 cases``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def relative(path: Path, root: Path) -> Path:
    """``path`` below ``root``; as it is where it stands elsewhere."""
    return path.relative_to(root) if path.is_relative_to(root) else path
