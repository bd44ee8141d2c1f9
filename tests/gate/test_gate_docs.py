"""docs/gate.md names every static figure."""

from __future__ import annotations

from pathlib import Path

from kevolve.gate.allowance import DEFAULTS

PAGE = Path(__file__).parents[2] / "docs" / "gate.md"


def test_every_figure_stands_in_the_documents_with_its_reason() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name, allowed in DEFAULTS.items() if f"| `{name}` |" not in page or allowed.reason not in page] == []
