"""What KernelBench itself accepts: impostors under its own inputs, weights and ``torch.allclose``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from benchmarks.admitting.problems import Problem, loaded, original, with_rows
from kevolve.evaluate.impostors import Subject, impostors

TOLERANCES = (1e-4, 1e-2)
TRIALS = 3
_PIECE = 1 << 18  # elements compared at once
_FEW = ("zeros", "constant", "mean", "replay", "half", "halved", "input 0")  # those tried where tensors are large
_LARGE = 1 << 22
_COPIED = 1 << 26  # elements of an input that a model gets a copy of: it might write to it


def sizes(problem: Problem, most_rows: int | None) -> Iterator[int | None]:
    """Numbers of rows from few to the problem's own (None), at most ``most_rows``."""
    own = original(problem)
    if own is None:
        yield None
        return
    count = 2
    while count < own and (most_rows is None or count <= most_rows):
        yield count
        count *= 4
    if most_rows is None or own <= most_rows:
        yield None


def accepted(problem: Problem, rows: int | None, seeds: int = 0, only: Sequence[str] = ()) -> dict[str, Any]:
    """Impostors accepted in all of three trials, by tolerance; the elements of the output and the seconds that it took.

    ``seeds``: which three seeds, by number; some problems draw the scale of their inputs, and are lenient where it is alike. ``only``: the
    impostors tried, where tensors are so large that each costs minutes.
    """
    start = time.perf_counter()
    module = loaded(with_rows(problem, rows), "problem")
    torch.manual_seed(42)
    model = module["Model"](*module["get_init_inputs"]())
    _, first = _trial(module, model, 10 * seeds)
    left: dict[float, set[str]] = {tolerance: {"all"} for tolerance in TOLERANCES}
    for number in range(10 * seeds + 1, 10 * seeds + TRIALS + 1):
        inputs, right = _trial(module, model, number)
        names = [name for name in _names(inputs, right) if not only or name in only]
        for tolerance in TOLERANCES:
            left[tolerance] = set(names) if left[tolerance] == {"all"} else left[tolerance] & set(names)
        subject = _subject(model, inputs, right, first, number)
        for name in names:
            _judge(name, subject, left)
    found = {f"{tolerance:g}": sorted(left[tolerance]) for tolerance in TOLERANCES}
    return {
        "rows": rows,
        "accepted": found,
        "elements": right.numel(),
        "seeds": seeds,
        "only": list(only),
        "seconds": round(time.perf_counter() - start, 2),
    }


def _trial(module: Mapping[str, Any], model: Any, seed: int) -> tuple[list[Any], torch.Tensor]:
    torch.manual_seed(seed)
    inputs = module["get_inputs"]()
    torch.manual_seed(seed)
    return inputs, _called(model, inputs)


def _called(model: Any, inputs: Sequence[Any]) -> torch.Tensor:
    with torch.no_grad():
        own = [value.clone() if isinstance(value, torch.Tensor) and value.numel() < _COPIED else value for value in inputs]
        made = model(*own)
    return made[0] if isinstance(made, tuple | list) else made


def _names(inputs: Sequence[Any], right: torch.Tensor) -> list[str]:
    every = impostors(len(inputs))
    return [name for name in every if right.numel() < _LARGE or name in _FEW]


def _subject(model: Any, inputs: Sequence[Any], right: torch.Tensor, first: torch.Tensor, seed: int) -> Subject:
    def again(others: Sequence[Any], mode: Any = None) -> torch.Tensor:
        torch.manual_seed(seed)
        if mode is None:
            return _called(model, others)
        raise RuntimeError("precision is not tried")

    return Subject(
        right=right, inputs=inputs, replayed=first, learnt=float(first.to(torch.float32).mean()), again=again, gradient=False, seed=seed
    )


def _judge(name: str, subject: Subject, left: dict[float, set[str]]) -> None:
    """Strike the impostor out where it is not accepted."""
    if not any(name in names for names in left.values()):
        return
    try:
        made = impostors(len(subject.inputs))[name](subject)
    except (RuntimeError, ValueError, IndexError, TypeError):  # the model refuses the inputs that it would need
        made = "refused"
    for tolerance in sorted(left, reverse=True):
        if name in left[tolerance] and (isinstance(made, str) or not _close(made, subject.right, tolerance)):
            for stricter in left:
                if stricter <= tolerance:
                    left[stricter].discard(name)


def _close(made: torch.Tensor, right: torch.Tensor, tolerance: float) -> bool:
    """As ``torch.allclose(right, made, atol=tolerance, rtol=tolerance)``, a piece at a time."""
    if made.shape != right.shape:
        return False
    pieces = zip(right.reshape(-1).split(_PIECE), made.reshape(-1).split(_PIECE), strict=True)
    return all(torch.allclose(a, b, atol=tolerance, rtol=tolerance) for a, b in pieces)
