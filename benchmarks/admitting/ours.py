"""The same problems as specs of ours: inputs of several distributions, weights anew for each draw, the derived tolerance."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.admitting.problems import Problem, smaller
from benchmarks.specs import collect
from kevolve.evaluate.admission import Admission, admit
from kevolve.spec.reference import Reference
from kevolve.spec.spec import Case, Spec

ROWS = 4
EXTENTS = (16, 32, 64, 128, 512, 2048, None)  # the most that a size may be: the first with which the model runs
QUICK_S = 1.0  # of a call of the model: smaller ones are looked for no further
DISTRIBUTIONS = ("normal", "uniform", "heavy_tailed", "integers")
_REFERENCE = """

_MODEL = Model(*get_init_inputs())
_STATE = [name for name, _ in _MODEL.named_parameters()]
_COUNT = {count}


def reference(*inputs):
    return torch.func.functional_call(_MODEL, dict(zip(_STATE, inputs[_COUNT:])), inputs[:_COUNT])
"""


def admitted(problem: Problem) -> dict[str, Any]:
    """What became of the impostors; ``random`` where the reference gives no same answer twice, so that there is no oracle."""
    start = time.perf_counter()
    folder = Path(tempfile.mkdtemp())
    for most in EXTENTS:
        source = smaller(problem, most, ROWS)
        module = _module(source, folder, problem)
        if module is not None:
            break
    else:
        return {"error": "the model runs at none of the sizes"}
    spec = _spec(problem, module, Path(str(module.__file__)))
    if not _is_repeatable(spec):
        return {"extent": most, "random": True}
    found = admit(spec)
    return {"extent": most, "seconds": round(time.perf_counter() - start, 2), **_brief(found)}


def _brief(found: Admission) -> dict[str, Any]:
    return {
        "draws": found.draws,
        "refused": len(found.refused),
        "not_applicable": dict(found.not_applicable),
        "unjudged": dict(found.unjudged),
        "survivors": {survivor.impostor: [survivor.passed, survivor.tolerance] for survivor in found.survivors},
    }


def _module(source: str, folder: Path, problem: Problem) -> Any:
    """The problem with a function of inputs and weights; None where the model does not run at these sizes."""
    name = f"problem_{problem.level}_{problem.number}"
    file = folder / f"{name}.py"
    try:
        torch.manual_seed(0)
        file.write_text(source + _REFERENCE.format(count=_inputs_count(source)), encoding="utf-8")
        found = importlib.util.spec_from_file_location(name, file)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module
        found.loader.exec_module(module)
        with torch.no_grad():
            module.reference(*module.get_inputs(), *(value.clone() for value in module._MODEL.parameters()))
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError, ZeroDivisionError):
        return None
    return module


def _inputs_count(source: str) -> int:
    names: dict[str, Any] = {"__name__": "counted"}
    exec(compile(source, "counted", "exec"), names)
    return len(names["get_inputs"]())


def _spec(problem: Problem, module: Any, file: Path) -> Spec:
    count = module._COUNT
    inputs = (*(f"input{position}" for position in range(count)), *module._STATE)
    return Spec(
        name=f"level{problem.level}_{problem.number}",
        nodeid=problem.key,
        folder=file.parent,
        describe=lambda **_: _drawing(module),
        reference=Reference(module=module.__name__, qualname="reference", file=file, inputs=inputs),
        cases=(Case(id="only", values={"distribution": "normal"}),),
        vary={},
        choices={"distribution": DISTRIBUTIONS},
        hash=problem.key,
    )


def _drawing(module: Any) -> Callable[[Mapping[str, Any], torch.Generator], tuple[Any, ...]]:
    """The problem's own ``get_inputs``, its random numbers drawn from the distribution named; weights as the model's are scattered."""

    def drawn(arguments: Mapping[str, Any], generator: torch.Generator) -> tuple[Any, ...]:
        def rand(*shape: Any, **_: Any) -> torch.Tensor:
            sizes = shape[0] if shape and isinstance(shape[0], tuple | list) else shape
            return numbers(arguments["distribution"], tuple(sizes), generator)

        torch.manual_seed(generator.initial_seed())
        module.torch = _Torch(rand)
        try:
            inputs = module.get_inputs()
        finally:
            module.torch = torch
        return (*inputs, *(_weights(value, generator) for value in module._MODEL.parameters()))

    return drawn


class _Torch(SimpleNamespace):
    """torch, with ``rand`` replaced."""

    def __init__(self, rand: Any) -> None:
        super().__init__(rand=rand)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def numbers(distribution: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Numbers of both signs."""
    normal = torch.randn(shape, generator=generator)
    if distribution == "integers":
        return torch.randint(-4, 5, shape, generator=generator).float()
    if distribution == "uniform":
        return torch.rand(shape, generator=generator)
    return normal.pow(3) if distribution == "heavy_tailed" else normal


def _weights(value: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Normal with the weight's own mean and deviation; what is constant is scattered by a tenth."""
    value = value.detach()
    deviation = float(value.std()) if value.numel() > 1 else 0.0
    return torch.randn(value.shape, generator=generator) * (deviation or 0.1) + float(value.mean())


def _is_repeatable(spec: Spec) -> bool:
    from kevolve.evaluate.materialise import materialise
    from kevolve.evaluate.oracle import answers
    from kevolve.spec.spec import Draw

    draw = Draw(values=spec.cases[0].values, seed=1)
    inputs = materialise(spec, draw)
    first, second = answers(spec, draw, inputs), answers(spec, draw, inputs)
    return all(torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True) for a, b in zip(first, second, strict=True))


def suites() -> dict[str, Any]:
    """The suites' specs: seconds by the clock and of a core, draws, impostors. What is imported once is imported before."""
    specs = collect()
    admit(next(iter(specs.values())))
    found = {}
    for name, spec in specs.items():
        start, busy = time.perf_counter(), time.process_time()
        brief = _brief(admit(spec))
        seconds = {"seconds": round(time.perf_counter() - start, 3), "cpu_seconds": round(time.process_time() - busy, 3)}
        found[name] = {**seconds, **brief, "not_applicable": len(brief["not_applicable"])}
    return found
