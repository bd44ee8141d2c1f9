"""What can be said of a kernel beyond resources and times, for the tool ``profile``: vectorised loops, or the order of its machine code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kevolve import registry
from kevolve.evaluate.feedback import loops, loops_text
from kevolve.evaluate.outcome import Outcome
from kevolve.languages import BuildError

REPORT_S = 60.0
_OUTLINE = (
    "Machine code in order, loops indented, longest kernels first. Memory accesses, barriers and matrix instructions are told, `x4` "
    "of a kind together, `(40)` others between them:"
)


def profiler(cache: Path) -> Callable[[str, str, Outcome], str]:
    """A profiler of (language, source, outcome). ``cache``: where compilers keep what they build.

    Its text is empty for a language whose compiler reports no loops and lists no code, and for a kernel that does not compile.
    """

    def profile(language: str, source: str, _outcome: Outcome) -> str:
        written = registry.load("languages", language)
        outline, report = (getattr(written, name, None) for name in ("outline", "vectorisation"))
        if outline is not None:
            text = outline(source, cache=cache)
            return f"{_OUTLINE}\n{text}" if text else ""
        if report is None:
            return ""
        try:
            found = loops(report(source, cache=cache, timeout_s=REPORT_S))
        except BuildError:
            return ""
        return f"Loops, as the compiler saw them:\n{loops_text(found, source)}" if found else ""

    return profile
