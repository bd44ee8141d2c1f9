"""A spec in words."""

from __future__ import annotations

from typing import Any

import kevolve
from kevolve import sizes
from kevolve.operators.agent import described, prompt
from kevolve.spec.declaration import build_spec
from kevolve.spec.spec import Case
from reference_ops import norms

EPS = 3


def spread(count: int) -> int:
    """Elements of a row."""
    return count + EPS


def made(arguments: dict[str, Any], generator: Any) -> Any:
    """Rows of random lengths."""
    import torch

    return torch.rand(arguments["rows"], spread(8), generator=generator), torch.ones(spread(8))


def test_the_function_that_makes_the_inputs_is_shown_with_what_it_names() -> None:
    @kevolve.kernel(norms.rms_norm, vary=dict(rows=sizes(0, 64)))
    def test_rms_norm(rows: int) -> Any:
        return made

    spec = build_spec(test_rms_norm, nodeid="test_norms.py::test_rms_norm", cases=(Case(id="4", values={"rows": 4}),))
    text = prompt.spec_text(described.facts_of(spec, "cpu"))
    assert "- `4`: made by the function below of rows=4" in text
    shown = text[text.index("What makes the inputs of a case") :]
    assert "```python\nEPS = 3\n\ndef spread(count: int)" in shown
    assert 'torch.rand(arguments["rows"], spread(8), generator=generator)' in shown
