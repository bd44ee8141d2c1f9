"""Regressions planted in ten kernels are found by the figure that moved; edits that change nothing are not flagged.

Here on one architecture; ``python -m benchmarks.gate_static`` does all of it on five.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kevolve.gate.static import fails
from kevolve.spec.figures import COMPILED
from tests.gate.harmless import OWN, all_edits, harmless
from tests.gate.planted import KERNELS, REGRESSIONS, Regression

ARCH = ("sm90",)


@pytest.mark.parametrize("regression", REGRESSIONS, ids=lambda regression: regression.kind.replace(" ", "-"))
def test_a_planted_regression_is_found_by_the_figure_that_moved(regression: Regression, figures_of: Callable[..., Any]) -> None:
    kernel = KERNELS[regression.kernel]
    arches = ARCH if set(regression.figures) & set(COMPILED) else ()
    failed = fails(figures_of(kernel.spec, kernel.source, regression.source, arches=arches))
    assert {figure.name for figure in failed} & set(regression.figures), [figure.name for figure in failed]


def test_ten_kernels_and_more_than_ten_kinds_are_planted() -> None:
    assert {regression.kernel for regression in REGRESSIONS} == set(KERNELS)
    assert len({regression.kind for regression in REGRESSIONS}) == len(REGRESSIONS) == 16


@pytest.mark.parametrize("name", KERNELS)
def test_edits_that_change_nothing_are_not_flagged(name: str, figures_of: Callable[..., Any]) -> None:
    kernel = KERNELS[name]
    found = figures_of(kernel.spec, kernel.source, all_edits(name), arches=ARCH)
    assert {figure.where.partition(" ")[0] for figure in found} == {"sm90", "interpreter"}
    assert fails(found) == ()


def test_there_are_fifty_harmless_edits_and_each_changes_the_text() -> None:
    edits = list(harmless())
    assert len(edits) == 75 == 6 * len(KERNELS) + sum(len(own) for own in OWN.values())
    assert all(source != KERNELS[name].source for name, _, source in edits)
    assert len({source for _, _, source in edits}) == len(edits)
