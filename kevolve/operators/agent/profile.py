"""What can be said of a kernel beyond resources and times, for the tool ``profile``: which loops its compiler vectorised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kevolve import registry
from kevolve.evaluate.feedback import loops, loops_text
from kevolve.evaluate.outcome import Outcome
from kevolve.languages import BuildError

REPORT_S = 60.0


def profiler(cache: Path) -> Callable[[str, str, Outcome], str]:
    """A profiler of (language, source, outcome). ``cache``: where compilers keep what they build.

    Its text is empty for a language whose compiler reports no loops, and for a kernel that does not compile.
    """

    def profile(language: str, source: str, _outcome: Outcome) -> str:
        report = getattr(registry.load("languages", language), "vectorisation", None)
        if report is None:
            return ""
        try:
            found = loops(report(source, cache=cache, timeout_s=REPORT_S))
        except BuildError:
            return ""
        return f"Loops, as the compiler saw them:\n{loops_text(found, source)}" if found else ""

    return profile
