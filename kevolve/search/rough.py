"""What rough times of every case say of a kernel."""

from __future__ import annotations

from collections.abc import Mapping

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.statistics import geometric_mean


def rough(speedups: Mapping[str, float], least: Mapping[str, float]) -> tuple[Outcome, float]:
    """The outcome and the fitness: the geometric mean of ``speedups`` by case; TOO_SLOW where one is below its ``least``."""
    fitness = geometric_mean(speedups.values())
    slowest = min(speedups, key=lambda case: speedups[case] / least[case])
    passed = speedups[slowest] >= least[slowest]
    message = f"{fitness:.2f}x" + ("" if passed else f", {slowest} {speedups[slowest]:.2f}x of {least[slowest]:g}x")
    status = Status.PASSED if passed else Status.TOO_SLOW
    return Outcome(status=status, stage=Stage.QUICK, message=message, detail={"speedups": dict(speedups)}), fitness
